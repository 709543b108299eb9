"""What is JSON, what is not, and that equal values have one digest."""

import datetime
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.canonical import MOST_LEVELS, MOST_VALUES, canonical, digest, not_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def shuffled(value: Any, by: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, by)) for key, inner in value.items()]
        by.shuffle(items)
        return dict(items)
    return [shuffled(inner, by) for inner in value] if isinstance(value, list) else value


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_a_digest(value: Any, by: random.Random) -> None:
    assert not_json(value) is None
    assert digest(shuffled(value, by)) == digest(value)


@given(VALUES, VALUES)
def test_two_values_have_one_form_only_where_they_are_the_same(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (
        repr(orjson.loads(canonical(one))) == repr(orjson.loads(canonical(other)))
    )


@pytest.mark.parametrize(
    ("value", "loc", "said"),
    [
        ({"a": [datetime.date(2026, 1, 1)]}, ("a", 0), "date needs quotes"),
        ({"a": {True: 1}}, ("a", "True"), "quotes"),
        ([2**64], (0,), "64 bits"),
        ([float("inf")], (0,), "no number"),
        (["\ud800"], (0,), "half of a character"),
        ([{1, 2}], (0,), "not JSON"),
        ([b"x"], (0,), "not JSON"),
    ],
)
def test_what_is_not_json_is_told_by_its_place(value: Any, loc: tuple[int | str, ...], said: str) -> None:
    problem = not_json(value)
    assert problem is not None
    assert problem.loc == loc
    assert said in problem.remedy


def test_a_value_without_an_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert f"{MOST_LEVELS} levels" in (problem.remedy if (problem := not_json(endless)) else "")


def test_a_value_that_multiplies_is_refused() -> None:
    """Ten lists, each of ten times the one before: what a bomb of YAML aliases becomes."""
    bomb: Any = "lol"
    for _ in range(10):
        bomb = [bomb] * 10
    assert f"{MOST_VALUES:,}" in (problem.remedy if (problem := not_json(bomb)) else "")
