"""What the guard lets through can be served, reads what the old text read, and quotes no held-out case."""

from hypothesis import given
from hypothesis import strategies as st

from prompts.check import errors, used_by
from prompts.optimise.candidate import components, draft, rewritten, told
from prompts.optimise.guard import Guard
from prompts.suite import Split
from prompts.template import BASE, Placeholder, Template, Text
from tests.prompts.optimise.helps import TIER, suite, template

HELD_OUT = suite().only(Split.HELD_OUT).cases
TRAIN = suite().only(Split.TRAIN).cases


def guard(of: Template) -> Guard:
    return Guard(of, TIER, held_out=HELD_OUT, rendered=TRAIN)


def test_the_text_that_is_there_is_let_through() -> None:
    assert guard(template()).problem(told(template(), TIER)) is None


def test_a_dropped_variable_is_named() -> None:
    problem = guard(template()).problem((Text("system", "Say left."), Text("user", "Well?")))
    assert problem is not None
    assert "{{ text }}" in problem


def test_the_place_of_the_clients_messages_is_kept() -> None:
    with_place = Template("t", (*template().messages, Placeholder()), inputs=template().inputs)
    assert "place" in str(guard(with_place).problem(with_place.messages[:-1]))


def test_a_quote_of_a_held_out_case_is_refused_and_one_of_a_train_case_is_not() -> None:
    def quoting(text: str) -> tuple[Text, Text]:
        return Text("system", f"As in: {text.upper()}!"), Text("user", "{{ text }}")

    assert "held out" in str(guard(template()).problem(quoting(str(HELD_OUT[0].vars["text"]))))
    assert guard(template()).problem(quoting(str(TRAIN[0].vars["text"]))) is None


def test_the_guard_has_no_text_of_a_held_out_case() -> None:
    made = guard(template())
    assert made._unseen
    assert all(isinstance(run, int) for runs in made._unseen.values() for run in runs)


def test_a_text_that_some_train_case_breaks_is_refused() -> None:
    breaking = (Text("system", "Say it."), Text("user", "{{ text }}{{ 1 // (text|length - text|length) }}"))
    assert "rendered" in str(guard(template()).problem(breaking))


@given(st.lists(st.sampled_from(["Say ", "{{ text }}", "{{ tone }}", "{% if tone %}", "{% endif %}", "{{", "x"])))
def test_whatever_is_let_through_can_be_served_and_reads_the_same_variables(pieces: list[str]) -> None:
    new = rewritten(told(template(), TIER), {"messages.0": "".join(pieces)})
    if guard(template()).problem(new) is None:
        made = draft(template(), TIER, new)
        assert not errors(made)
        assert used_by(made, TIER) == used_by(template(), BASE)


def test_instructions_are_rewritten_and_what_the_user_says_only_where_there_are_none() -> None:
    assert list(components(template().messages)) == ["messages.0"]
    assert list(components(template().messages[1:])) == ["messages.0"]
    assert components(template().messages)["messages.0"] == "Say left or right."
