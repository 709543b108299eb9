"""Two versions of a template side by side."""

from typing import Any

import pytest

from prompts.diff import diff, token_delta
from prompts.template import Part, Placeholder, Routing, Template, Text, Variant

SYSTEM, USER = Text("system", "Be brief.\nBe kind."), Text("user", "{{ x }}")
ANY = {"type": "object", "properties": {"x": {"type": "string"}}}


def template(*parts: Part, **more: Any) -> Template:
    return Template("a", parts, inputs=ANY, **more)


def told(old: Template, new: Template) -> list[str]:
    return [str(change) for change in diff(old, new)]


def test_one_version_differs_in_nothing() -> None:
    assert diff(template(SYSTEM, USER), template(SYSTEM, USER)) == []


def test_a_message_that_was_written_anew_is_shown_by_its_lines() -> None:
    other = Text("system", "Be brief.\n-- or else\nBe stern.")
    assert told(template(SYSTEM, USER), template(other, USER)) == [
        "@@ base: message 0 (system)\n@@ -1,3 +1,4 @@\n role: system\n Be brief.\n-Be kind.\n+-- or else\n+Be stern."
    ]


def test_a_message_put_in_between_is_no_change_of_the_others() -> None:
    [change] = diff(template(SYSTEM, USER), template(SYSTEM, Text("user", "Hello"), Placeholder(), USER))[:1]
    assert change.what == "base: message 1 (user)"
    assert len(diff(template(SYSTEM, USER), template(SYSTEM, Text("user", "Hello"), Placeholder(), USER))) == 2


def test_a_message_that_was_taken_out_is_shown() -> None:
    [change] = diff(template(SYSTEM, USER), template(USER))
    assert change.lines[1:] == ("-role: system", "-Be brief.", "-Be kind.")


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"description": "x"}, "description"),
        ({"model": "small"}, "model"),
        ({"parameters": {"seed": 1}}, "parameters"),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"routing": Routing(bar=0.9)}, "routing"),
        ({"locked": frozenset(["seed"])}, "locked"),
        ({"client_system": True}, "client_system"),
        ({"variants": {"small": Variant(parameters={"seed": 1})}}, "small: parameters"),
        ({"variants": {"small": Variant((USER,))}}, "small: message 0 (user)"),
        ({"partials": {"p": "x"}}, "partial p"),
    ],
)
def test_whatever_makes_another_version_is_shown(more: dict[str, Any], what: str) -> None:
    base, other = template(USER), template(USER, **more)
    assert base.digest != other.digest
    assert [change.what for change in diff(base, other)] == [what]
    assert [change.what for change in diff(other, base)] == [what]


def test_the_tokens_of_an_edit_are_those_of_the_text_that_a_tier_is_told() -> None:
    old = template(SYSTEM, USER, variants={"small": Variant((USER,))})
    new = template(
        Text("system", '{% include "p" %}'), USER, variants={"small": Variant((USER,))}, partials={"p": "Be."}
    )
    assert token_delta(old, new, None, len) == len("Be.") - len(SYSTEM.content)
    assert token_delta(old, new, "small", len) == 0


def test_the_tokens_of_what_cannot_be_rendered_are_unknown() -> None:
    assert token_delta(template(USER), template(Text("user", "{{ x.y.z }}")), None, len) is None
