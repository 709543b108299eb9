"""A caller's variables: every mistake is told by JSON pointer, and what passes is JSON and what the schema says."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.variables import MOST_BYTES, MOST_TOLD, Inputs, InputsError, VariablesRefused, WrongVariable

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "maxLength": 20},
        "many": {"type": "array", "items": {"type": "integer"}},
        "age": {"type": "integer"},
        "share": {"type": "number"},
        "loud": {"type": "boolean"},
        "either": {"type": ["integer", "string"]},
        "tone": {"enum": ["calm", "stern"], "default": "calm"},
        "who": {"type": "object", "required": ["a/b"], "properties": {"a/b": {"type": "string"}}},
    },
}


def checked(**variables: object) -> dict[str, Any]:
    return Inputs(SCHEMA).checked("a/b", variables)


def refused(**variables: object) -> list[tuple[str, str]]:
    with pytest.raises(VariablesRefused) as error:
        checked(**variables)
    return [(wrong.pointer, wrong.says) for wrong in error.value.problems]


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({}, ("/text", "is required, and not there")),
        ({"text": "x", "txet": 1}, ("/txet", "is no variable of this prompt; did you mean text?")),
        ({"text": 1}, ("/text", "a number must be of type string")),
        ({"text": None}, ("/text", "null must be of type string")),
        ({"text": True}, ("/text", "a truth value must be of type string")),
        ({"text": ["x"]}, ("/text", "a list must be of type string")),
        ({"text": "x" * 21}, ("/text", "has 21 characters; 20 is the most")),
        ({"text": "x", "age": "seven"}, ("/age", "a text must be of type integer")),
        ({"text": "x", "age": 1.5}, ("/age", "a number must be of type integer")),
        ({"text": "x", "many": [1, "2"]}, ("/many/1", "a text must be of type integer")),
        ({"text": "x", "tone": "loud"}, ("/tone", 'a text must be one of "calm", "stern"')),
        ({"text": "x", "who": {}}, ("/who/a~1b", "is required, and not there")),
        (
            {"text": "x", "a/b~\n": 1},
            ("/a~1b~0\\n", "is no variable of this prompt; it has: age, either, "),
        ),
        ({"text": "\ud800"}, ("/text", "is not JSON: str is not valid UTF-8: surrogates not allowed")),
        ({"text": object()}, ("/text", "is not JSON: Type is not JSON serializable: object")),
        ({"text": "x", "age": 2**70}, ("/age", "is not JSON: Integer exceeds 64-bit range")),
        (
            {"text": {"type": "input_image", "image_url": "x"}},
            ("/text", "an image or a file goes into a message"),
        ),
    ],
)
def test_a_mistake_is_told_by_its_pointer(variables: dict[str, object], wrong: tuple[str, str]) -> None:
    [(pointer, says)] = refused(**variables)
    assert pointer == wrong[0]
    assert says.startswith(wrong[1])


def test_all_mistakes_are_told_at_once() -> None:
    assert sorted(pointer for pointer, _ in refused(age="x", loud=1, zzz=1)) == ["/age", "/loud", "/text", "/zzz"]


def test_mistakes_have_a_limit_in_number_and_length() -> None:
    told = refused(text="x" * 500_000, many=["y" * 1000] * 400)
    assert len(told) == MOST_TOLD + 1
    assert told[-1] == ("", "there are more mistakes than these")
    assert all(len(says) < 200 for _, says in told)
    [(pointer, says)] = refused(text="x", **{"z" * 100_000: 1})
    assert len(pointer) < 100
    assert len(says) < 200


def test_a_schema_reads_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text('{"type": "string"}')
    with pytest.raises(InputsError):
        Inputs({"properties": {"x": {"$ref": (tmp_path / "text.json").as_uri()}}})


def forked(levels: int) -> dict[str, Any]:
    """Each definition leads twice to the next one: 26 levels took 1 s, and each level doubles it."""
    defs: dict[str, Any] = {"a0": {"type": "string"}}
    for level in range(levels):
        defs[f"a{level + 1}"] = {"anyOf": [{"$ref": f"#/$defs/a{level}"}, {"allOf": [{"$ref": f"#/$defs/a{level}"}]}]}
    return {"type": "object", "properties": {"x": {"$ref": f"#/$defs/a{levels}"}}, "$defs": defs}


def test_a_schema_that_could_run_for_ever_is_refused_with_its_place() -> None:
    with pytest.raises(InputsError, match=r"steps once its \$refs are followed .*; simplify it") as error:
        Inputs(forked(26))
    assert error.value.loc[:2] == ("properties", "x")
    with pytest.raises(InputsError, match="linear time") as error:
        Inputs({"type": "object", "properties": {"x": {"type": "string", "pattern": "(?<=a)b"}}})
    assert error.value.loc == ("properties", "x")


def test_variables_that_would_take_too_long_to_check_are_refused() -> None:
    inputs = Inputs(forked(14))
    assert inputs.checked("a", {"x": "y"}) == {"x": "y"}
    with pytest.raises(VariablesRefused, match=r"variables: 500,\d\d\d bytes are more than .* in time; send less"):
        inputs.checked("a", {"x": "y" * 500_000})


def test_a_list_of_a_hundred_thousand_mistakes_is_refused_in_one() -> None:
    """To tell them took the engine that checks them 1.5 s, and each further key of an item another 0.3 s."""
    [(pointer, says)] = refused(text="x", many=["y"] * 100_000)
    assert (pointer, says) == ("", "are not what the inputs say, and hold too much to tell where; send less")


def test_a_schema_may_refer_to_itself() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
    inputs = Inputs({"type": "object", "properties": {"x": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}})
    assert inputs.checked("a", {"x": {"next": {"next": {}}}})["x"] == {"next": {"next": {}}}
    with pytest.raises(VariablesRefused, match="/x/next/next: a number must be of type object"):
        inputs.checked("a", {"x": {"next": {"next": 1}}})


def test_variables_have_a_limit_in_bytes() -> None:
    [(pointer, says)] = refused(text="x" * 10_000_000)
    assert pointer == "/text"
    assert f"{MOST_BYTES:,} is the most" in says


def test_there_may_be_so_many_variables() -> None:
    [(_, says)] = refused(**{f"x{n}": 1 for n in range(10_000)})
    assert says == "there may be 256 at most"


def test_nested_too_deep_is_refused() -> None:
    value: object = 0
    for _ in range(100_000):
        value = [value]
    assert [pointer for pointer, _ in refused(text=value)] == ["/text"]


def test_defaults_are_filled_in_and_not_shared() -> None:
    inputs = Inputs({"type": "object", "properties": {"x": {"type": "array", "default": [1]}}})
    inputs.checked("a", {})["x"].append(2)
    assert inputs.checked("a", {}) == {"x": [1]}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("age", "7", 7),
        ("age", "-0", 0),
        ("share", "0.5", 0.5),
        ("share", "7", 7),
        ("loud", "true", True),
        ("either", "7", "7"),
        ("text", "7", "7"),
        ("text", "true", "true"),
        ("text", "[1]", "[1]"),
    ],
)
def test_a_text_stands_for_a_number_only_where_nothing_else_may_be_there(name: str, text: str, value: object) -> None:
    said = checked(**{"text": "x", name: text})[name]
    assert said == value
    assert type(said) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("age", text) for text in ("1.0", "true", "0x1", "", "1e3")),
        *(("loud", text) for text in ("yes", "1", "True")),
        ("share", "NaN"),
    ],
)
def test_any_other_text_is_no_number(name: str, text: str) -> None:
    assert [pointer for pointer, _ in refused(**{"text": "x", name: text})] == [f"/{name}"]


def test_an_input_text_stands_for_its_text() -> None:
    said = checked(text={"type": "input_text", "text": "x"}, age={"type": "input_text", "text": "7"})
    assert said == {"text": "x", "age": 7, "tone": "calm"}


def test_an_object_that_the_schema_asks_for_stays_one() -> None:
    inputs = Inputs({"type": "object", "properties": {"x": {"type": "object"}}})
    assert inputs.checked("a", {"x": {"type": "input_text", "text": "y"}})["x"] == {"type": "input_text", "text": "y"}


def test_objects_of_ours_are_never_in_a_template() -> None:
    class Text(str):
        secret = "hunter2"

    assert refused(text=Text("x")) == [("/text", "is not JSON: Type is not JSON serializable: Text")]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])) | st.text(max_size=8), anything, max_size=6))
def test_whatever_comes_is_checked_or_refused_in_a_line(variables: dict[str, Any]) -> None:
    inputs = Inputs(SCHEMA)
    problems: tuple[WrongVariable, ...] = ()
    said: dict[str, Any] | None = None
    try:
        said = inputs.checked("a", variables)
    except VariablesRefused as error:
        problems = error.problems
    assert (said is None) == bool(problems)
    assert all(wrong.says.isprintable() and wrong.pointer.isprintable() for wrong in problems)
    if said is not None:
        assert inputs.checked("a", said) == said
