"""A schema or pattern of others is applied as it says, at a bounded cost, or refused; it is never fetched."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prompts.schemas as schemas_module
from prompts.schemas import CALLERS, INPUTS, SIZE_AT_LEAST, SUITES, SchemaRefused, Terms, compiled, matcher, schema_of

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


def refusal(schema: Any, terms: Terms = CALLERS) -> str:
    with pytest.raises(SchemaRefused) as error:
        schema_of(schema, terms)
    return str(error.value)


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
        {"$ref": "#"},
        {"$ref": "#x", "$defs": {"a": {"$anchor": "x"}}},
        {"$ref": "#/$defs/a%20b", "$defs": {"a b": False, "a%20b": True}},
        {"$ref": "#/$defs/a/$defs/b", "$defs": {"a": {"$id": "http://a/", "$defs": {"b": True}}}},
        {"properties": {"x": {"id": "http://a/", "$ref": "#/definitions/y"}}},
        {"$schema": "http://127.0.0.1:1/meta.json"},
        {"properties": {"x": {"$id": "http://other/", "$ref": "#/$defs/x"}}},
        {"$dynamicRef": "#x"},
        {"unevaluatedProperties": False},
        {"pattern": "(?=a)b"},
        {"pattern": r"(a)\1"},
        {"pattern": "(a{1000}){1000}"},
        {"properties": {f"p{n}": {"pattern": "a"} for n in range(CALLERS.patterns + 1)}},
        {"description": "x" * CALLERS.schema_bytes},
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
    assert small.accepts({}, CALLERS.value_characters + 1) is None
    assert large.accepts(1, 1) is False
    assert large.accepts(1, CALLERS.work // large.steps + 1) is None
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
    """Whatever is compiled here says the same as the validator alone; only circles are not."""
    whole = {**schema, "$defs": {"d": defined}}
    found = compiled(whole)
    if found is None:
        assert "in a circle" in refusal(whole)
        return
    assert found.accepts(value, 1) is jsonschema_rs.validator_for(whole, offline=True).is_valid(value)


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


def doubled(kind: str, levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {"l0": {"type": "string"}}
    for level in range(1, levels + 1):
        definitions[f"l{level}"] = {kind: [{"$ref": f"#/$defs/l{level - 1}"}, {"$ref": f"#/$defs/l{level - 1}"}]}
    return {"$defs": definitions, "$ref": f"#/$defs/l{levels}"}


@pytest.mark.parametrize("terms", [CALLERS, SUITES, INPUTS])
@pytest.mark.parametrize("kind", ["anyOf", "allOf", "oneOf"])
def test_a_schema_that_doubles_is_refused(kind: str, terms: Terms) -> None:
    assert "steps once its $refs are followed" in refusal(doubled(kind, 25), terms)
    assert schema_of(doubled(kind, 4), terms).accepts(3, 1) is False


@pytest.mark.parametrize(
    ("schema", "said", "loc"),
    [
        ({"$ref": "#"}, "in a circle", ()),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}}, "in a circle", ()),
        ({"items": {"$dynamicRef": "#a"}}, "$dynamicRef is not supported", ("items",)),
        ({"properties": {"a": {"$id": "b"}}}, "$id within a schema is not supported", ("properties", "a")),
        ({"$ref": "other.json"}, "its own parts only", ("$ref",)),
        ({"$ref": "#/$defs/none"}, "does not have", ()),
        ({"allOf": [{"pattern": f"a{i}"} for i in range(100)]}, "more than 64 patterns", ("allOf", 64)),
        ({"properties": {"enum": doubled("anyOf", 25)}, **doubled("anyOf", 25)}, "steps once", ("properties",)),
        ({"patternProperties": {f"a{i}": True for i in range(100)}}, "more than 64 patterns", ()),
        ({"items": {"pattern": "(?=a)b"}}, "linear time", ("items",)),
        ([], "a mapping", ()),
        ({"properties": {"a": {"type": 7}}}, "is not a JSON Schema: 7", ("properties", "a", "type")),
        ({"properties": [1]}, "is not a JSON Schema: [1]", ("properties",)),
        ({"description": "x" * SUITES.schema_bytes}, "is the most", ()),
    ],
)
def test_a_schema_of_a_file_is_refused_with_the_reason_and_the_place(schema: Any, said: str, loc: tuple[Any]) -> None:
    with pytest.raises(SchemaRefused) as error:
        schema_of(schema, SUITES)
    assert said in str(error.value)
    assert error.value.loc[: len(loc)] == loc


@pytest.mark.parametrize("levels", [100, 5000])
def test_a_schema_nested_too_deeply_is_refused(levels: int) -> None:
    schema: Any = {}
    for _ in range(levels):
        schema = {"not": schema}
    assert "nested" in refusal(schema, SUITES)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "(.*)*x", "(a|aa)+$", "(?:a?){100}a{100}$", "^(([a-z])+.)+[A-Z]$"]
)
def test_a_pattern_that_backtracking_never_finishes_has_an_answer(pattern: str) -> None:
    """The standard library's `re` takes years on these; the time limit of a test is two minutes."""
    assert matcher(pattern).accepts("a" * 99_999 + "!", 100_000) is False


def test_a_pattern_counts_by_what_it_compiles_to() -> None:
    """`[ab]*a[ab]{200}[^ab]` may be in 200 states at once, and took 3 us for each character."""
    small, large = compiled({"pattern": "^a+$"}), compiled({"pattern": "[ab]*a[ab]{200}[^ab]"})
    assert small is not None
    assert large is not None
    assert small.accepts("ab" * 30_000, 60_000) is False
    assert large.accepts("ab" * 30_000, 60_000) is None
    assert large.accepts("ab" * 300 + "ac", 602) is True


def test_a_long_list_of_words_is_no_long_schema() -> None:
    assert schema_of({"enum": [str(i) for i in range(4000)]}, SUITES).accepts("7", 3) is True


def test_mistakes_are_told_where_that_ends() -> None:
    """All are found before the first is told, without what makes saying no quick."""
    found = schema_of({"items": {"type": "string"}}, INPUTS)
    assert [error.instance_path for error in found.mistakes(["a", 1, 2])] == [[1], [2]]
    assert not list(found.mistakes([1] * 100_000))
    ways = [{"items": {"$ref": "#"}}, {"title": "again", "items": {"$ref": "#"}}]
    twice = schema_of({"oneOf": ways}, INPUTS)
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert twice.accepts(deep, 81) is False
    assert not list(twice.mistakes(deep))


def test_all_that_is_kept_has_a_bound() -> None:
    for number in range(200):
        schema_of({"minimum": number}, SUITES)
    kept = schemas_module._compiled.cache_info()
    assert kept.currsize <= (kept.maxsize or 0)


NAMES = [f"a{n}" for n in range(6)]
references = st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in NAMES])
forks = st.recursive(
    references | st.sampled_from([{"type": "string"}, {"type": "array"}, True]),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **{name: st.lists(inner, min_size=2, max_size=4) for name in ("allOf", "anyOf", "oneOf")},
            **{name: inner for name in ("not", "if", "then", "else", "items", "contains", "additionalProperties")},
        },
    ),
    max_leaves=8,
)


@given(st.fixed_dictionaries({name: forks for name in NAMES}), st.integers(0, 12), st.integers(1, 2))
def test_a_schema_that_forks_is_refused_or_ends_within_its_bound(defs: dict[str, Any], depth: int, wide: int) -> None:
    """What the bound keeps out takes minutes, or for ever; the time limit of a test is two minutes."""
    value: Any = "x"
    for level in range(depth):
        value = [value] * (wide if level < 4 else 1)
    characters = len(json.dumps(value))
    found = compiled({"$ref": "#/$defs/a0", "$defs": defs})
    if found is None:
        return
    assert found.steps <= CALLERS.work // SIZE_AT_LEAST
    said = found.accepts(value, characters)
    list(found.mistakes(value))
    assert (said is None) == (found.steps * characters > CALLERS.work)


def test_each_kind_has_its_own_terms() -> None:
    dated = {"format": "date"}
    assert schema_of(dated, SUITES).accepts("x", 3) is True
    assert schema_of(dated, INPUTS).accepts("x", 3) is False
    assert schema_of(dated, CALLERS).accepts("x", 3) is True
