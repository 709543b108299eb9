"""When two answers say the same: a wrong "yes" would let a worse model earn trust, a wrong "no" costs money only."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.compare import SHORT_CHARACTERS, Comparer, Exact, Graded, Json, Similar, usual
from prompts.form import JSON

SIMILAR = Similar(0.9)
ALIKE = 0.95
LONG = "The parcel left the depot on Monday and is due in two days, says the carrier's page."


@pytest.mark.parametrize(
    ("comparer", "right", "other"),
    [
        (Exact(), "Paris", " paris.\n"),
        (Exact(), "**Yes**", "yes!"),
        (Exact(), '"up"', "Up"),
        (Exact(), "New  York", "new york"),
        (Exact(), "- cat\n- dog", "- cat - dog"),
        (Json(), '{"a": 1, "b": [true, null]}', '{ "b": [true, null], "a": 1.0 }'),
        (Json(), "[]", " [ ] "),
        (Graded("number"), "It is 1,234.", "So the answer: 1234.0"),
        (Graded("number"), f"{10**30:,}", f"{10**30}.000"),
        (SIMILAR, LONG, LONG.replace("parcel", "package")),
    ],
)
def test_the_same(comparer: Comparer, right: str, other: str) -> None:
    assert comparer.takes(right)
    assert comparer.same(right, other, ALIKE)


@pytest.mark.parametrize(
    ("comparer", "right", "other"),
    [
        (Exact(), "Paris", "Paris, France"),
        (Exact(), "3.5", "35"),
        (Exact(), "5", "-5"),
        (Exact(), "x != 1", "x = 1"),
        (Exact(), "C++", "C"),
        (Exact(), "yes", ""),
        (Json(), '{"a": 1}', '{"a": true}'),
        (Json(), '{"a": "1"}', '{"a": 1}'),
        (Json(), '{"a": "x"}', '{"a": "X"}'),
        (Json(), "[1, 2]", "[2, 1]"),
        (Json(), "{}", "```json\n{}\n```"),
        (Json(), "{}", "sorry"),
        (Graded("number"), "42", "43"),
        (Graded("number"), "9" * 400, "8" * 400),  # a double has no room for either
        (Graded("number"), "12345678901234567890", "12345678901234567891"),
        (Graded("number"), "42", "forty-two"),
        (SIMILAR, LONG, LONG.replace("is due", "is not due")),
        (SIMILAR, "It costs 20 euros and lasts 3 years.", "It costs 30 euros and lasts 2 years."),
        (SIMILAR, LONG, LONG * 3),
        (SIMILAR, LONG, ""),
    ],
)
def test_not_the_same(comparer: Comparer, right: str, other: str) -> None:
    assert comparer.takes(right)
    assert not comparer.same(right, other, ALIKE)


def test_texts_that_are_less_alike_than_wanted_are_not_the_same() -> None:
    assert not SIMILAR.same(LONG, LONG, 0.89)


@pytest.mark.parametrize(
    ("comparer", "right"),
    [(Exact(), " ...\n"), (Json(), "no"), (Json(), "[" * 500), (Graded("number"), "none"), (SIMILAR, "")],
)
def test_an_answer_with_nothing_to_compare_is_not_taken(comparer: Comparer, right: str) -> None:
    assert not comparer.takes(right)


@pytest.mark.parametrize(
    ("right", "as_json", "meant"),
    [
        ("{}", True, Json()),
        ("Paris", False, Exact()),
        ("x" * SHORT_CHARACTERS, False, Exact()),
        ("x" * (SHORT_CHARACTERS + 1), False, None),
    ],
)
def test_what_is_usual(right: str, as_json: bool, meant: Comparer | None) -> None:
    assert usual(right, as_json=as_json) == meant


@given(st.text(), st.text())
@pytest.mark.parametrize("comparer", [Exact(), Json(), Graded("number"), SIMILAR])
def test_no_text_breaks_a_comparer_and_the_order_does_not_matter(comparer: Comparer, one: str, other: str) -> None:
    if comparer.takes(one):
        assert comparer.same(one, one, 1.0)
        if comparer.takes(other):
            assert comparer.same(one, other, ALIKE) == comparer.same(other, one, ALIKE)


@pytest.mark.parametrize("comparer", [Exact(), Json(), Graded("number"), SIMILAR])
@pytest.mark.parametrize(
    "unit", ["n", "non't ", "1,", "1.", "9", "-", "answer:", "'", '"', "\\", "\n", " ", "{", "[", "\0", "\u00e9"]
)
def test_a_repeated_text_ends_in_time(comparer: Comparer, unit: str) -> None:
    """A megabyte of what makes a pattern explode; a hang is ended by the suite's time limit, so nothing is timed."""
    text = unit * (1_000_000 // len(unit))
    if comparer.takes(text):
        assert comparer.same(text, text, 1.0)
        assert not comparer.same(text, "one 2", 1.0)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists))
def test_whatever_json_writes_is_json_and_equals_itself(value: object) -> None:
    text = orjson.dumps(value).decode()
    assert JSON.keeps(text)
    assert Json().same(text, orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
