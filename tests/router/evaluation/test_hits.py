"""Thresholds keep their promise as often as they say, and their bound is the router's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bounds import difference_lower_bound
from router.evaluation.hits import Promise, choose, difference_exceeds, hit_rate, net_at_least
from router.evaluation.methods import POINTSMAN
from router.evaluation.methods.before import PointsmanBefore
from router.evaluation.samples import Outcomes
from router.evaluation.tables import Floats


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    pairs = draw(st.integers(1, 60))
    lost = draw(st.integers(0, pairs))
    return lost, draw(st.integers(0, pairs - lost)), pairs


@given(counts(), st.sampled_from([0.9, 0.95, 0.999]))
@settings(max_examples=60)
def test_the_fast_bound_is_the_routers_bound(found: tuple[int, int, int], confidence: float) -> None:
    lost, won, pairs = found
    bound = difference_lower_bound(lost, won, pairs, confidence)
    assert difference_exceeds(lost, won, pairs, bound - 1e-5, confidence)
    if bound < 1 - 1e-4:
        assert not difference_exceeds(lost, won, pairs, bound + 1e-5, confidence)


@pytest.mark.parametrize("pairs", [1, 7, 400])
def test_the_chances_of_net_counts_are_those_of_a_simulation(pairs: int) -> None:
    won, lost = 0.2, 0.1
    drawn = np.random.default_rng(3).multinomial(pairs, [won, lost, 1 - won - lost], size=40_000)
    net = drawn[:, 0] - drawn[:, 1]
    for at in (int(np.quantile(net, 0.1)), int(np.median(net)), int(np.quantile(net, 0.9))):
        chance = net_at_least(at, pairs, np.array([won]), np.array([lost]))[0]
        assert chance == pytest.approx((net >= at).mean(), abs=0.02)  # six deviations of the simulation


def test_every_net_count_is_at_least_the_lowest_and_none_above_the_highest() -> None:
    half = np.array([0.3])
    assert net_at_least(-5, 5, half, half)[0] == pytest.approx(1)
    assert net_at_least(6, 5, half, half)[0] == pytest.approx(0, abs=1e-12)


def _world(prompts: int, seed: int) -> tuple[Floats, Outcomes]:
    """The gain is known but for noise."""
    rng = np.random.default_rng(seed)
    hard = rng.random(prompts)
    small, large = (rng.random(prompts) < 1 - hard).astype(float), (rng.random(prompts) < 0.9).astype(float)
    return hard + 0.1 * rng.standard_normal(prompts), Outcomes(small, large, np.empty((prompts, 0)), ())


def test_a_surer_promise_takes_more_large_calls() -> None:
    gain, outcomes = _world(2000, 4)
    thresholds = [choose(gain, outcomes, confidence) for confidence in (None, 0.8, 0.95, 0.999)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert np.isfinite(thresholds[-1])


def test_too_few_prompts_promise_nothing_but_the_large_model() -> None:
    gain, outcomes = _world(20, 5)
    assert choose(gain, outcomes, 0.95) == -np.inf


def test_the_promise_of_the_mean_is_broken_in_one_of_twenty_samples_at_most() -> None:
    """Calibrated on 300 prompts each time, judged by the truth: 200,000 others. Of 120 times, 12 or more breaks would
    have a chance under 0.02 if the bound were just kept.
    """
    truth_gain, truth = _world(200_000, 6)
    wanted = 0.95 * truth.large.mean()
    broken = 0
    for seed in range(120):
        threshold = choose(*_world(300, 1000 + seed), 0.95)
        broken += np.where(truth_gain >= threshold, truth.large, truth.small).mean() < wanted
    assert broken < 12


def test_the_promise_for_the_next_prompts_is_kept_more_often_than_a_tuned_threshold() -> None:
    gain, outcomes = _world(1500, 7)
    rows = np.arange(1500)
    found = {
        promise: hit_rate("s", PointsmanBefore(), gain, outcomes, rows, promise, np.random.default_rng(8), 60)
        for promise in Promise
    }
    assert found[Promise.TUNED].hit_rate < found[Promise.MEAN].hit_rate <= found[Promise.NEXT].hit_rate
    assert found[Promise.NEXT].hit_rate >= 0.95
    assert found[Promise.TUNED].large_share < found[Promise.NEXT].large_share < found[Promise.NEXT].random_share
    assert found[Promise.NEXT].method == POINTSMAN
