"""What is written as files is read back as the same template."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from prompts.files import case_lines, prompt_file, variant_file
from prompts.plainyaml import parse_plain
from prompts.promptfile import SaidPrompt, SaidVariant, parts
from prompts.template import Part, Placeholder, Routing, Template, Text, Variant

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.just("\n"), min_size=1)
HARD = st.sampled_from(
    [
        "no",
        "yes",
        "1.0",
        "null",
        "~",
        "- a",
        "a: b",
        "# a",
        " a",
        "a ",
        "a\n",
        "\na",
        "'",
        '"',
        "{{ x }}",
        "{% if x %}\n",
    ]
)
PARTS = st.lists(
    st.builds(Text, st.sampled_from(["system", "user", "assistant"]), TEXTS | HARD) | st.just(Placeholder()),
    min_size=1, max_size=6,
)  # fmt: skip


def template(messages: tuple[Part, ...]) -> Template:
    return Template(
        "t",
        messages,
        inputs={"type": "object", "properties": {"x": {"type": "string", "default": "no"}}},
        description="It says: yes.",
        parameters={"temperature": 0, "stop": ["\n"]},
        response_format={"type": "json_object"},
        routing=Routing(0.9, ("small",), ("x",)),
        locked=frozenset({"stop"}),
    )


@given(PARTS)
def test_a_prompt(said: list[Part]) -> None:
    was = template(tuple(said))
    read = SaidPrompt.model_validate(parse_plain(Path("t"), prompt_file(was, "A draft:\n- yes")).value)
    again = Template(
        "t",
        parts(read.messages),
        inputs=read.inputs,
        description=read.description,
        model=read.model,
        parameters=read.modelParameters,
        response_format=read.response_format(),
        routing=read.routing.routing(),
        locked=frozenset(read.locked),
        client_system=read.client_system,
    )
    assert again == was


@given(PARTS)
def test_a_variant(said: list[Part]) -> None:
    was = template(tuple(said)).messages  # with lines as a template has them
    variant = Variant(was, {"stop": ["\n"]})
    read = SaidVariant.model_validate(parse_plain(Path("t"), variant_file(variant)).value)
    assert read.variant() == variant


def test_a_text_of_several_lines_is_written_as_lines() -> None:
    assert "content: |-\n    One.\n    Two." in variant_file(Variant((Text("system", "One.\nTwo."),)))


def test_cases_are_one_on_a_line() -> None:
    assert case_lines([{"vars": {"x": "a\nb"}}, {"vars": {"x": "ü"}}]).count("\n") == 2
