"""Patterns and schemas of strangers are refused or end soon."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.schema import MOST_STEPS, matcher, mismatch, validator


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "(.*)*x", "(a|aa)+$", "(?:a?){100}a{100}$", "^(([a-z])+.)+[A-Z]$"]
)
def test_a_pattern_that_backtracking_never_finishes_has_an_answer(pattern: str) -> None:
    """The standard library's `re` takes years on these; the time limit of a test is two minutes."""
    assert not matcher(pattern).is_valid("a" * 99_999 + "!")


def doubled(kind: str, levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {"l0": {"type": "string"}}
    for level in range(1, levels + 1):
        definitions[f"l{level}"] = {kind: [{"$ref": f"#/$defs/l{level - 1}"}, {"$ref": f"#/$defs/l{level - 1}"}]}
    return {"$defs": definitions, "$ref": f"#/$defs/l{levels}"}


@pytest.mark.parametrize("kind", ["anyOf", "allOf", "oneOf"])
def test_a_schema_that_doubles_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="subschemas"):
        validator(doubled(kind, 60))
    assert mismatch(doubled(kind, 4), 3) is not None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#"}, "circle"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "circle"),
        ({"$dynamicRef": "#a"}, "not supported"),
        ({"properties": {"a": {"$id": "b"}}}, "not supported"),
        ({"$ref": "other.json"}, "its own parts only"),
        ({"$ref": "#/$defs/none"}, "does not have"),
        ({"allOf": [{"pattern": f"a{i}"} for i in range(100)]}, "subschemas"),
        ({"properties": {"enum": doubled("anyOf", 60)}, **doubled("anyOf", 60)}, "subschemas"),
        ({"patternProperties": {f"a{i}": True for i in range(100)}}, "subschemas"),
        ([], "mapping"),
        ({"type": 7}, "not a JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        validator(schema)


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: Any = {}
    for _ in range(5_000):
        schema = {"not": schema}
    with pytest.raises(ValueError, match="nested"):
        validator(schema)


@pytest.mark.parametrize(
    ("schema", "value", "rule", "detail"),
    [
        (
            {"$defs": {"a/b": {"type": "string"}}, "items": {"$ref": "#/$defs/a~1b"}},
            ["x", 1],
            "$defs/a/b/type",
            "/1: ",
        ),
        ({"const": {"$ref": "elsewhere"}}, 1, "const", "{"),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": 1}, "properties/$ref/type", "/$ref: 1 is not"),
        ({"type": "string", "pattern": "^a+$"}, "b", "pattern", '"b" does not match'),
        ({"additionalProperties": False}, {"secret": 1}, "additionalProperties", "False schema"),
        (False, 1, "false", "False schema"),
    ],
)
def test_a_mismatch_names_the_rule_without_quoting_the_value(schema: Any, value: Any, rule: str, detail: str) -> None:
    said = mismatch(schema, value)
    assert said is not None
    assert said.rule == rule
    assert said.detail.startswith(detail)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 2**60) | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_whatever_is_given_as_schema_is_taken_or_refused(schema: Any) -> None:
    try:
        accepted = validator(schema)
    except ValueError:
        return
    assert accepted.is_valid(7) in (True, False)


def test_a_long_list_of_words_is_no_long_schema() -> None:
    assert mismatch({"enum": [str(i) for i in range(MOST_STEPS * 2)]}, "7") is None
