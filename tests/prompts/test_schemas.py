"""A caller's schema is applied as it says, at a bounded cost, and never fetched from anywhere."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.schemas import PATTERNS_LIMIT, SCHEMA_LIMIT_BYTES, STEPS_LIMIT, TEXT_LIMIT_CHARACTERS, compiled

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "left": {"$ref": "#/$defs/node"},
                "right": {"$ref": "#/$defs/node"},
                "is": {"type": "string"},
            },
            "required": ["is"],
        }
    },
}


def forked(levels: int) -> dict[str, Any]:
    """Each of its definitions leads twice to the next one: 2 ** *levels* ways."""
    defs: dict[str, Any] = {"a0": {"type": "string"}}
    for level in range(levels):
        ways = [{"$ref": f"#/$defs/a{level}"}, {"title": "again", "allOf": [{"$ref": f"#/$defs/a{level}"}]}]
        defs[f"a{level + 1}"] = {"anyOf": ways}
    return {"$ref": f"#/$defs/a{levels}", "$defs": defs}


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        (PERSON, {"name": "Ada", "age": 36}, True),
        (PERSON, {"name": "ada", "age": 36}, False),
        (PERSON, {"name": "Ada"}, False),
        (PERSON, {"name": "Ada", "age": 36, "more": 1}, False),
        (PERSON, [], False),
        (TREE, {"is": "a", "left": {"is": "b", "right": {"is": "c"}}}, True),
        (TREE, {"is": "a", "left": {"is": "b", "right": {}}}, False),
        (True, 1, True),
        (False, 1, False),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, ["a", 1], True),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, [1], False),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1, "b"], False),
        (forked(8), "text", True),
        (forked(8), 1, False),
    ],
)
def test_a_schema_says_what_it_says(schema: Any, value: object, valid: bool) -> None:
    found = compiled(schema)
    assert found is not None
    assert found.accepts(value, len(json.dumps(value))) is valid


@pytest.mark.parametrize(
    "schema",
    [
        None,
        3,
        "text",
        {"type": "objekt"},
        {"allOf": 3},
        {"properties": [1]},
        {"$ref": "#/$defs/missing"},
        {"$ref": "http://127.0.0.1:1/x.json"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": 3},
        {"$schema": "http://127.0.0.1:1/meta.json"},
        {"properties": {"x": {"$id": "http://other/", "$ref": "#/$defs/x"}}},
        {"$dynamicRef": "#x"},
        {"unevaluatedProperties": False},
        {"pattern": "(?=a)b"},
        {"pattern": r"(a)\1"},
        {"pattern": "(a{1000}){1000}"},
        {"properties": {f"p{n}": {"pattern": "a"} for n in range(PATTERNS_LIMIT + 1)}},
        {"description": "x" * SCHEMA_LIMIT_BYTES},
        forked(30),
        {1: "not a key"},
    ],
)
def test_what_is_no_schema_or_too_much_of_one_is_none(schema: object) -> None:
    assert compiled(schema) is None


def test_a_long_chain_of_references_is_none_and_no_stack_is_used_up() -> None:
    defs: dict[str, Any] = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1000)}
    assert compiled({"$ref": "#/$defs/a0", "$defs": {**defs, "a1000": True}}) is None


def test_a_pattern_that_would_backtrack_for_years_does_not() -> None:
    found = compiled({"pattern": "^(a+)+$"})
    assert found is not None
    assert found.accepts("a" * 50_000 + "b", 50_003) is False


def test_what_would_take_too_long_is_not_said() -> None:
    small, large = compiled(PERSON), compiled(forked(12))
    assert small is not None
    assert large is not None
    assert small.accepts({}, TEXT_LIMIT_CHARACTERS + 1) is None
    assert large.accepts(1, 1) is False
    assert large.accepts(1, STEPS_LIMIT // large.steps + 1) is None
    compared = compiled({"items": {"anyOf": [{"enum": [[0] * 50 + [n] for n in range(180)]}, True]}})
    assert compared is not None
    assert compared.accepts([], 2) is True
    assert compared.accepts([[0] * 50 + [-1]] * 200, 21_001) is None  # 0.4 s


def test_one_schema_is_compiled_once() -> None:
    assert compiled(PERSON) is compiled(json.loads(json.dumps(PERSON)))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
leaves = st.sampled_from(
    [
        True,
        False,
        {},
        {"type": "string"},
        {"type": "integer"},
        {"const": 1},
        {"enum": ["a", None]},
        {"$ref": "#/$defs/d"},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["a", "^b"]), inner, max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
        },
    ),
    max_leaves=6,
)


@given(schemas.filter(lambda schema: isinstance(schema, dict)), leaves, values)
def test_the_bound_on_work_changes_no_verdict(schema: dict[str, Any], defined: Any, value: object) -> None:
    """Whatever is compiled here says the same as the validator alone."""
    whole = {**schema, "$defs": {"d": defined}}
    found = compiled(whole)
    assert found is not None
    try:
        meant = jsonschema_rs.validator_for(whole, offline=True).is_valid(value)
    except ValueError:  # it refers to itself in the very place
        return
    assert found.accepts(value, 1) is meant


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda i: (
            st.lists(i, max_size=4)
            | st.dictionaries(
                st.sampled_from(["$ref", "items", "type", "properties", "anyOf", "$defs", "pattern", "enum", "x"]),
                i,
                max_size=4,
            )
        ),
    )
)
def test_whatever_a_caller_writes_is_a_schema_or_none(written: object) -> None:
    found = compiled(written)
    assert found is None or found.accepts({"x": [1]}, 9) in (True, False, None)
