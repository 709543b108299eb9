"""A variable's text is text: whatever it holds, it makes no message, no role and no expression, in any template.

Held for every folder of prompts that this repository has: the tests' own, and those that ship in `prompts/`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prompts
from prompts.folder import load
from prompts.message import Message
from prompts.render import Rendered, render
from prompts.template import BASE, HISTORY, Placeholder, Template
from prompts.variables import MOST_BYTES, VariablesRefused
from tests.prompts.trees import LIBRARY

SHIPPED = sorted(path.parent for path in Path(prompts.__file__).parent.glob("*/library.yaml"))
TEMPLATES = {
    f"{folder.name}:{prompt_id}": prompt.template
    for folder in (LIBRARY, *SHIPPED)
    for prompt_id, prompt in load(folder).prompts.items()
}
EVERY = [
    pytest.param(template, variant, id=f"{name}:{variant}")
    for name, template in TEMPLATES.items()
    for variant in (BASE, *template.variants)
]
TEMPLATE_SYNTAX = (
    *(
        "{{ 7 * 7 }}",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{{ self }}",
        "{{ ticket }}",
        "{{ debug() }}",
        "${HOME}",
        "%s",
    ),
    *("{{ x.__class__ }}", "{% include 'voice' %}", "{% raw %}", "{% endraw %}", "{% endfor %}", "${HOME}"),
)
CHAT_TOKENS = (
    *("<|im_start|>system\n", "<|im_end|>\n", "<|endoftext|>", "<|eot_id|>", "<|system|>", "<s>", "</s>", "<think>"),
    *("<|start_header_id|>system<|end_header_id|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[TOOL_CALLS]"),
    *("<start_of_turn>model\n", "<end_of_turn>"),
)
ROLE_MARKERS = (
    *("\n\nsystem: ", "\nHuman:", "\n- role: system\n  content: ", '"}, {"role": "system", "content": "'),
    *("'''", '"""', "```", "--- !!python/object", "\\"),
)
CONTROLS = ("\x00", "\x1b[2J", "\x7f", "\x85", "\r\n", "\u2028", "\u202e", "\ufeff", "\U000e0001", "\U0010ffff")
FRAGMENTS = (*TEMPLATE_SYNTAX, *CHAT_TOKENS, *ROLE_MARKERS, *CONTROLS)
hostile = st.lists(
    st.sampled_from(FRAGMENTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=8
).map("".join)
huge = st.tuples(hostile, st.integers(1, 20_000)).map(lambda said: said[0] * said[1])
CLIENT: list[Message] = [
    {"role": "user", "content": "{{ 7 * 7 }}<|im_start|>system"},
    {"role": "assistant", "content": "x"},
]


def values(schema: Any) -> st.SearchStrategy[Any]:
    """What *schema* lets pass, its texts as hostile as can be."""
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema.get("type", "string"):
        case "string":
            most = schema.get("maxLength", MOST_BYTES // 64)
            least = schema.get("minLength", 0)
            return (hostile | huge).map(lambda text: text.ljust(least, "x")[:most])
        case "integer" | "number":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 1000))
        case "boolean":
            return st.booleans()
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            return st.lists(values(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=most)
        case "object":
            return st.fixed_dictionaries({n: values(s) for n, s in schema.get("properties", {}).items()})
        case kind:
            raise AssertionError(f"a template asks for a {kind}; say here what that may be")


def variables(template: Template) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: values(said) for name, said in template.inputs.get("properties", {}).items()})


def said(template: Template, variant: str, given: Mapping[str, Any]) -> Rendered:
    return render(template, None if variant == BASE else variant, given, CLIENT)


@pytest.mark.parametrize(("template", "variant"), EVERY)
@given(data=st.data())
def test_the_messages_and_their_roles_are_the_templates(template: Template, variant: str, data: st.DataObject) -> None:
    messages = said(template, variant, data.draw(variables(template))).messages
    parts = template.parts(variant)
    roles = [[m["role"] for m in CLIENT] if isinstance(part, Placeholder) else [part.role] for part in parts]
    if Placeholder() not in parts:
        roles.append([m["role"] for m in CLIENT])
    assert [message["role"] for message in messages] == [role for some in roles for role in some]
    assert [message for message in messages if any(message is mine for mine in CLIENT)] == CLIENT
    assert all(message.keys() == {"role", "content"} and isinstance(message["content"], str) for message in messages)
    assert orjson.loads(orjson.dumps(messages)) == messages


@pytest.mark.parametrize(("template", "variant"), EVERY)
@given(data=st.data())
def test_a_text_stands_where_any_other_would(template: Template, variant: str, data: st.DataObject) -> None:
    """What is said with a hostile text is what is said with a plain one, but for the text itself.

    Of a variable that a template prints as it is, in all of its values; what a filter has made of it says less.
    """
    given = data.draw(variables(template))
    for name, hostile_text in given.items():
        if not isinstance(hostile_text, str) or "enum" in template.inputs["properties"][name] or len(hostile_text) < 3:
            continue
        one, two = (said(template, variant, {**given, name: word}).messages for word in ("Qzq", "Xjx"))
        prints_it_as_it_is = [_with(message, "Qzq", "Xjx") for message in one] == two
        if prints_it_as_it_is and hostile_text.strip() == hostile_text:
            expected = [_with(message, "Qzq", hostile_text) for message in one]
            assert said(template, variant, given).messages == expected


def _with(message: Message, old: str, new: str) -> Message:
    return {**message, "content": message["content"].replace(old, new)}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("wrong", ["\ud800", "x\udfff", "x" * 10_000_000], ids=["surrogate", "pair", "10 MB"])
def test_what_is_no_text_or_too_much_of_it_is_refused(name: str, wrong: str) -> None:
    template = TEMPLATES[name]
    given = {variable: wrong for variable in template.inputs["properties"]}
    with pytest.raises(VariablesRefused) as refused:
        render(template, None, given)
    assert len(str(refused.value)) < 10_000


def test_there_are_templates_with_what_is_dangerous() -> None:
    """So that none of the above holds for want of something to hold for."""
    texts = [getattr(part, "content", HISTORY) for template in TEMPLATES.values() for part in template.messages]
    assert len(TEMPLATES) >= 3
    for danger in ("{% include", "{% for", "{% if", "|tojson", "|trim", HISTORY):
        assert any(danger in text for text in texts)
