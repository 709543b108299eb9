"""The chance that a model solves a prompt: the formula, its limits, and the file it is read from."""

import json
from math import exp
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.difficulty import BUILTIN_DIFFICULTY, Difficulty, SolveModel, load_difficulty, write_solve_models
from router.features import FEATURES
from router.looks import Looks
from router.words import PLACES
from tests.router.world import LARGE, MIDDLE, ONES, SMALL, ZEROS, looks, solves

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.tuples(*[finite] * len(FEATURES))
scales = st.tuples(*[st.floats(min_value=1e-6, max_value=1e6)] * len(FEATURES))


def test_is_the_logistic_formula() -> None:
    weights, means, scales_ = (2.0, -1.0, *ZEROS[2:]), (1.0, 3.0, *ZEROS[2:]), (4.0, 0.5, *ONES[2:])
    model = SolveModel(0.5, weights, means, scales_)

    z = 0.5 + 2 * (7 - 1) / 4 - 1 * (4 - 3) / 0.5
    assert model.chance(Looks((7.0, 4.0, *ZEROS[2:]))) == pytest.approx(1 / (1 + exp(-z)))


def test_its_template_shifts_it_and_one_never_fitted_on_does_not() -> None:
    model = SolveModel(0.5, ZEROS, ZEROS, ONES, offsets={"known": -2.0})

    assert model.chance(looks(0), "known") == pytest.approx(1 / (1 + exp(1.5)))
    assert model.chance(looks(0), "never seen") == model.chance(looks(0)) == pytest.approx(1 / (1 + exp(-0.5)))


def test_words_count_together_for_as_much_as_one_however_many_there_are() -> None:
    weights = [0.0] * PLACES
    weights[3], weights[5] = 2.0, -1.0
    model = SolveModel(0.0, ZEROS, ZEROS, ONES, words=weights)

    assert model.of_words((3,)) == 2
    assert model.of_words((3, 4, 5, 6)) == pytest.approx((2 - 1) / 2)
    assert model.of_words(()) == SolveModel(0.0, ZEROS, ZEROS, ONES).of_words((3,)) == 0
    assert model.chance(Looks(ZEROS, (3, 4, 5, 6))) == pytest.approx(1 / (1 + exp(-0.5)))


def test_a_feature_far_off_counts_as_four_deviations() -> None:
    model = SolveModel(0.0, (0.1, *ZEROS[1:]), ZEROS, ONES)

    assert model.chance(looks(1e9)) == model.chance(looks(4)) > model.chance(looks(3.9))
    assert model.chance(looks(-1e9)) == model.chance(looks(-4))


def test_is_a_half_where_nothing_speaks_for_either() -> None:
    assert solves(0.0).chance(looks(0.0)) == 0.5


@given(bias=finite, weights=numbers, means=numbers, scales=scales, features=numbers)
def test_is_a_chance_whatever_the_numbers(
    bias: float,
    weights: tuple[float, ...],
    means: tuple[float, ...],
    scales: tuple[float, ...],
    features: tuple[float, ...],
) -> None:
    assert 0 <= SolveModel(bias, weights, means, scales).chance(Looks(features)) <= 1


@given(weight=st.floats(min_value=0, max_value=5), low=st.floats(-5, 5), high=st.floats(-5, 5))
def test_grows_with_a_feature_of_positive_weight(weight: float, low: float, high: float) -> None:
    low, high = sorted((low, high))

    assert solves(0.1, weight).chance(looks(low)) <= solves(0.1, weight).chance(looks(high))


def test_refuses_features_of_another_number() -> None:
    with pytest.raises(ValueError, match="zip"):
        solves(0.0).chance(Looks((*ZEROS, 1.0)))


@given(small=st.floats(-5, 5), large=st.floats(-5, 5), value=st.floats(-5, 5))
def test_the_difference_is_between_the_two_chances(small: float, large: float, value: float) -> None:
    difficulty = Difficulty({SMALL.build: solves(small, 1), LARGE.build: solves(large)})
    difference = difficulty.expected_difference(SMALL.build, LARGE.build, looks(value), None)
    back = difficulty.expected_difference(LARGE.build, SMALL.build, looks(value), None)

    assert difference == solves(small, 1).chance(looks(value)) - solves(large).chance(looks(0))
    assert back == -difference
    assert difficulty.expected_difference(SMALL.build, SMALL.build, looks(value), None) == 0


def test_nothing_is_expected_of_a_build_that_was_never_fitted() -> None:
    difficulty = Difficulty({SMALL.build: solves(0.0)})

    assert difficulty.expected_difference(SMALL.build, LARGE.build, looks(0), None) is None
    assert difficulty.expected_difference(MIDDLE.build, SMALL.build, looks(0), None) is None


def test_two_builds_are_compared_on_templates_that_both_were_fitted_on() -> None:
    one = SolveModel(0.0, ZEROS, ZEROS, ONES, offsets={"both": 0.0, "one": 0.0})
    other = SolveModel(0.0, ZEROS, ZEROS, ONES, offsets={"both": 0.0})
    difficulty = Difficulty({SMALL.build: one, LARGE.build: other})

    assert difficulty.compares(SMALL.build, LARGE.build, "both")
    assert not difficulty.compares(SMALL.build, LARGE.build, "one")
    assert not difficulty.compares(MIDDLE.build, LARGE.build, "both")


def test_refuses_words_that_were_hashed_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "difficulty.json"
    write_solve_models(path, {"build": ("small", SolveModel(0.0, ZEROS, ZEROS, ONES, words=(1.0, 2.0)))})

    with pytest.raises(ValueError, match="pointsman ladder fit"):
        load_difficulty(path)


def test_refuses_a_file_that_was_fitted_on_other_features(tmp_path: Path) -> None:
    for features in (list(FEATURES)[:-1], list(FEATURES)[::-1], [*FEATURES, "more"]):
        path = tmp_path / "difficulty.json"
        path.write_text(json.dumps({"features": features, "models": {}}), encoding="utf-8")

        with pytest.raises(ValueError, match="pointsman ladder fit"):
            load_difficulty(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_difficulty(tmp_path / "difficulty.json")


def test_the_shipped_file_is_whole() -> None:
    for model in load_difficulty(BUILTIN_DIFFICULTY).models.values():
        assert len(model.weights) == len(model.means) == len(model.scales) == len(FEATURES)
        assert all(scale > 0 for scale in model.scales)
        assert len(model.words) == PLACES
        assert all(0 < model.chance(Looks(model.means), template) < 1 for template in model.offsets)
