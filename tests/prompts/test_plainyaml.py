"""YAML that says JSON: what it means is what JSON has, and nothing that is built from it runs or grows."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.plainyaml import parse_plain
from prompts.yamlfile import YamlError

PATH = Path("x.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("'true'", "true"),
        ("7", 7),
        ("-7", -7),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("012", "012"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_a_word_means_what_it_says(text: str, value: object) -> None:
    said = parse_plain(PATH, f"a: {text}").value["a"]
    assert said == value
    assert type(said) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [1]\nb: *x", "x.yaml:1:4: an alias (*name) is not permitted here"),
        ("a: &x [*x]", "x.yaml:1:4: an alias (*name) is not permitted here"),
        ("a: !x 1", "x.yaml:1:4: the tag !x is not permitted here"),
        ("a: !!binary aGk=", "x.yaml:1:4: the tag binary is not permitted here"),
        ("a: !!set {b}", "x.yaml:1:4: the tag set is not permitted here"),
        ("a: {<<: {b: 1}}", "x.yaml:1:5: a key is a text; merges (<<) and lists are not permitted here"),
        ("? [a]\n: 1", "x.yaml:1:3: a key is a text"),
        ("a: 99999999999999999999", "x.yaml:1:4: has more than 64 bits"),
        ("a: 1e999", "x.yaml:1:4: is too large a number"),
        ("a: 1\na: 2", "x.yaml:1: a: is there again on line 2"),
    ],
)
def test_what_json_has_not_is_refused_with_its_place(text: str, told: str) -> None:
    with pytest.raises(YamlError) as refused:
        parse_plain(PATH, text)
    assert str(refused.value).startswith(told)


texts = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=8)  # YAML refuses or folds some others
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(json)
def test_json_is_read_as_json(value: Any) -> None:
    assert parse_plain(PATH, orjson.dumps({"a": value}).decode()).value == {"a": value}


@pytest.mark.parametrize(
    ("text", "line", "column", "place"),
    [
        ("a:\n  b: |\n    one\n    two", 2, 2, (4, 6)),
        ("a:\n  b: 'one two'", 1, 5, (2, 11)),
        ("a:\n  b: one two", 1, 5, (2, 10)),
        ("a:\n  b: 'one\n\n    two'", 2, 1, (2, 3)),
        ("a:\n  b: >\n    one\n    two", 1, 5, (2, 3)),
        ("a: {}", 1, 1, (1, 1)),
    ],
)
def test_a_place_in_a_text_is_a_place_in_the_file(text: str, line: int, column: int, place: tuple[int, int]) -> None:
    assert parse_plain(PATH, text).position_within(("a", "b"), line, column) == place
