"""The figures are what the papers say, and keep what any such figure must keep."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from router.evaluation.metrics import (
    aiq,
    best_within,
    cheapest_for,
    curve,
    expected_calibration_error,
    figures,
    interval,
    ranked,
    reliability,
    resampled_apgr,
    resampled_counts,
)
from router.evaluation.tables import Floats

Pair = tuple[Floats, Floats, Floats]


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """A gain with ties, and right or wrong answers of a small and a better large model."""
    size = draw(st.integers(5, 60))
    whole = st.lists(st.integers(0, 4), min_size=size, max_size=size)
    right = st.lists(st.booleans(), min_size=size, max_size=size)
    gain, small, large = (np.array(draw(of), dtype=np.float64) for of in (whole, right, right))
    assume(large.mean() > small.mean())
    return gain, small, large


@given(pairs())
def test_nobody_is_better_than_the_oracle(pair: Pair) -> None:
    gain, small, large = pair
    oracle = figures(large - small, small, large)
    reached = figures(gain, small, large)
    assert oracle.apgr >= reached.apgr - 1e-9
    assert all(best <= cpt + 1e-6 for best, cpt in zip(oracle.cpt, reached.cpt, strict=True))


@given(pairs())
def test_a_coin_has_half_of_the_gap_and_the_levels_themselves(pair: Pair) -> None:
    _, small, large = pair
    coin = figures(np.zeros(len(small)), small, large)
    assert coin.apgr == pytest.approx(0.5)
    assert coin.cpt == pytest.approx((50, 80, 95))


@given(pairs())
def test_the_worst_and_the_best_order_mirror_each_other(pair: Pair) -> None:
    gain, small, large = pair
    assert figures(gain, small, large).apgr + figures(-gain, small, large).apgr == pytest.approx(1)


@given(pairs())
def test_more_of_the_gap_never_takes_fewer_calls(pair: Pair) -> None:
    fifty, eighty, ninety_five = figures(*pair).cpt
    assert 0 <= fifty <= eighty <= ninety_five <= 100


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(pair: Pair, dice: "np.random.Generator") -> None:
    order = list(range(len(pair[0])))
    dice.shuffle(order)
    shuffled = figures(*(of[order] for of in pair))
    assert shuffled.apgr == pytest.approx(figures(*pair).apgr)
    assert shuffled.cpt == pytest.approx(figures(*pair).cpt)


@given(pairs())
def test_only_the_order_of_the_gains_counts(pair: Pair) -> None:
    gain, small, large = pair
    assert figures(np.exp(gain) - 7, small, large).apgr == pytest.approx(figures(gain, small, large).apgr)


def test_where_the_large_model_is_no_better_there_is_no_gap() -> None:
    reached = figures(np.arange(4.0), np.ones(4), np.ones(4))
    assert np.isnan(reached.apgr)
    assert all(np.isnan(reached.cpt))


def test_a_curve_by_hand() -> None:
    """Four prompts; the first escalated gains one, the second nothing, the third loses, the fourth gains."""
    small, large = np.array([0.0, 1, 1, 0]), np.array([1.0, 1, 0, 1])
    made = curve(ranked(np.array([4.0, 3, 2, 1])), small, large)
    assert made.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert made.value.tolist() == [0.5, 0.75, 0.75, 0.5, 0.75]


@given(pairs(), st.integers(0, 2**32 - 1))
def test_an_interval_contains_the_median_of_its_resamples(pair: Pair, seed: int) -> None:
    gain, small, large = pair
    found = resampled_apgr(gain, small, large, resampled_counts(len(gain), np.random.default_rng(seed), 60))
    assume(np.isfinite(found).any())
    low, high = interval(found)
    assert low <= np.nanmedian(found) <= high


def test_the_interval_of_a_large_sample_contains_the_point() -> None:
    rng = np.random.default_rng(1)
    small = (rng.random(800) < 0.5).astype(float)
    large = (rng.random(800) < 0.8).astype(float)
    gain = large - small + rng.standard_normal(800)
    low, high = interval(resampled_apgr(gain, small, large, resampled_counts(800, rng, 300)))
    assert low < figures(gain, small, large).apgr < high
    assert high - low < 0.2


def test_resampling_every_prompt_once_is_the_sample() -> None:
    rng = np.random.default_rng(2)
    small, large, gain = rng.random(50), 0.2 + rng.random(50), rng.integers(0, 5, 50).astype(float)
    once = resampled_apgr(gain, small, large, np.ones((1, 50)))
    assert once[0] == pytest.approx(figures(gain, small, large).apgr)


def test_cost_and_quality_are_read_off_between_two_thresholds() -> None:
    """Half of the prompts escalated costs 6 of 1 to 11, and a coin between two thresholds reaches what lies between."""
    quality = curve(ranked(np.array([2.0, 1])), np.array([0.0, 0]), np.array([1.0, 1]))
    cost = curve(ranked(np.array([2.0, 1])), np.array([1.0, 1]), np.array([11.0, 11]))
    assert best_within(quality, cost, 6) == pytest.approx(0.5)
    assert best_within(quality, cost, 8.5) == pytest.approx(0.75)
    assert best_within(quality, cost, 100) == 1
    assert np.isnan(best_within(quality, cost, 0.5))
    assert cheapest_for(quality, cost, 0.75) == pytest.approx(8.5)
    assert np.isnan(cheapest_for(quality, cost, 1.1))


@given(st.floats(0.1, 100), st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=20))
def test_aiq_does_not_depend_on_the_currency_nor_on_points_below_the_hull(
    rate: float, points: list[tuple[float, float]]
) -> None:
    cost, quality = np.array(points).T
    plain = aiq(cost, quality, 0, 11)
    assert 0 <= plain <= 1
    assert aiq(rate * cost, quality, 0, 11 * rate) == pytest.approx(plain, abs=1e-9)
    worse = aiq(np.append(cost, cost[0] + 0.5), np.append(quality, quality[0]), 0, 11)
    assert worse == pytest.approx(plain, abs=1e-9)


def test_aiq_by_hand() -> None:
    """From (0, 0.2) straight to (1, 0.6), flat up to 2: (0.4 + 0.6) / 2. The point in between is under the line."""
    cost, quality = np.array([0.0, 0.5, 1.0, 1.5]), np.array([0.2, 0.3, 0.6, 0.5])
    assert aiq(cost, quality, 0, 2) == pytest.approx(0.5)


def test_calibration_compares_what_was_said_with_what_came_true() -> None:
    chances, true = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0.0, 1, 1, 1])
    bins = reliability(chances, true)
    assert [(b.prompts, b.observed) for b in bins] == [(2, 0.5), (2, 1.0)]
    assert expected_calibration_error(bins) == pytest.approx((0.45 + 0.05) / 2)
