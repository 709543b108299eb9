"""The bounds hold at every moment at once, against every adversary, and cost a bounded width for it."""

from functools import cache
from math import log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bounds import lower_bound
from router.sequences import Counts, log_wealth_above, log_wealth_below, lower, upper

counts = st.builds(Counts, *[st.integers(min_value=0, max_value=500)] * 3)
means = st.floats(min_value=0.02, max_value=0.98)
weights = st.sampled_from([0.25, 0.5, 1.0])


def crosses(of: Counts, mean: float, error: float) -> bool:
    return log_wealth_above([(of, 1.0)], mean) >= log(1 / error)


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("error", [0.05, 0.3])
def test_the_chance_to_ever_prove_what_is_not_true_is_at_most_the_error(mean: float, error: float) -> None:
    """Exact, over all sequences of 300 outcomes whose mean is just at the bar, looked at after every one."""
    alive, crossed = {0: 1.0}, 0.0  # by number of passes
    for total in range(1, 301):
        after: dict[int, float] = {}
        for passed, chance in alive.items():
            after[passed + 1] = after.get(passed + 1, 0.0) + chance * mean
            after[passed] = after.get(passed, 0.0) + chance * (1 - mean)
        proved = {p for p in after if crosses(Counts(total - p, 0, p), mean, error)}
        crossed += sum(after.pop(p) for p in proved)
        alive = after

    assert 0 < crossed <= error


@pytest.mark.parametrize("mean", [0.2, 0.5, 0.9])
def test_no_adversary_can_prove_what_is_not_true_more_often(mean: float) -> None:
    """He sees all that has come and chooses the next mean, anything up to the bar; solved backwards, exactly."""
    error, last = 0.2, 60

    @cache
    def best(passed: int, total: int) -> float:
        if crosses(Counts(total - passed, 0, passed), mean, error):
            return 1.0
        if total == last:
            return 0.0
        up, down = best(passed + 1, total + 1), best(passed, total + 1)
        return max(p * up + (1 - p) * down for p in (mean * share / 4 for share in range(5)))

    assert 0 < best(0, 0) <= error


@pytest.mark.parametrize("mean", [0.45, 0.3])
def test_no_adversary_can_prove_a_difference_that_is_not_there_more_often(mean: float) -> None:
    """Pairs with the safe tier: he also chooses how many are alike."""
    error, last = 0.3, 24
    choices = [(1 - mean, 0.0, mean), (1 - 2 * mean, 2 * mean, 0.0), (1 - 1.5 * mean, mean, mean / 2), (1.0, 0.0, 0.0)]

    @cache
    def best(lost: int, alike: int, won: int) -> float:
        if crosses(Counts(lost, alike, won), mean, error):
            return 1.0
        if lost + alike + won == last:
            return 0.0
        ends = (best(lost + 1, alike, won), best(lost, alike + 1, won), best(lost, alike, won + 1))
        return max(sum(p * end for p, end in zip(choice, ends, strict=True)) for choice in choices)

    assert 0 < best(0, 0, 0) <= error


def test_the_bounds_hold_under_optional_stopping() -> None:
    """Stopped where the bound looks best: the true mean of 0.8 is missed in at most 5 % of sequences."""
    random, missed = Random(7), 0
    for _ in range(200):
        zeros = ones = 0
        best = 0.0
        for _ in range(200):
            passed = random.random() < 0.8
            ones, zeros = ones + passed, zeros + (not passed)
            if (ones + zeros) % 10 == 0:
                best = max(best, lower([(Counts(zeros, 0, ones), 1.0)], 0.05))
        missed += best > 0.8

    assert missed <= 10 + 3 * 3  # three standard deviations above 5 % of 200


@given(of=counts, mean=means, weight=weights)
def test_streams_of_one_hypothesis_are_merged_by_adding_their_counts(of: Counts, mean: float, weight: float) -> None:
    half = Counts(of.zeros // 2, of.halves // 2, of.ones // 2)
    rest = Counts(of.zeros - half.zeros, of.halves - half.halves, of.ones - half.ones)
    split, whole = [(half, weight), (rest, weight)], [(half + rest, weight)]

    assert log_wealth_above(split, mean) == pytest.approx(log_wealth_above(whole, mean))


@given(of=counts, mean=means, weight=weights)
def test_a_better_outcome_never_wins_less(of: Counts, mean: float, weight: float) -> None:
    """And so a bound never falls when a failure becomes a pass."""
    ladder = [of + Counts(zeros=1), of + Counts(halves=1), of + Counts(ones=1)]
    wealth = [log_wealth_above([(one, weight)], mean) for one in ladder]

    assert wealth == sorted(wealth)


@given(of=counts, low=means, high=means, weight=weights)
def test_what_refutes_a_mean_refutes_every_lower_one(of: Counts, low: float, high: float, weight: float) -> None:
    low, high = sorted((low, high))

    assert log_wealth_above([(of, weight)], low) >= log_wealth_above([(of, weight)], high) - 1e-9


@given(of=counts, weight=weights, error=st.sampled_from([0.5, 0.05, 1e-4, 1e-9]))
def test_the_bounds_enclose_the_average_and_agree_with_the_wealth(of: Counts, weight: float, error: float) -> None:
    total = of.zeros + of.halves + of.ones
    low, high = lower([(of, weight)], error), upper([(of, weight)], error)
    average = (of.ones + of.halves / 2) / total if total else 0.5

    assert 0 <= low <= average <= high <= 1
    if low > 0.001:
        assert log_wealth_above([(of, weight)], low) >= log(1 / error)
    if high < 0.999:
        assert log_wealth_below([(of, weight)], high) >= log(1 / error)


@pytest.mark.parametrize(
    ("passed", "total", "wider"),
    [(30, 30, 0.06), (73, 73, 0.03), (95, 100, 0.05), (190, 200, 0.03), (930, 1000, 0.015), (600, 1000, 0.025)],
)
def test_looking_always_costs_so_much_against_looking_once(passed: int, total: int, wider: float) -> None:
    """Against Clopper and Pearson's bound for this total, at 95 %."""
    once = lower_bound(passed, total, 0.95)

    assert once - wider <= lower([(Counts(total - passed, 0, passed), 1.0)], 0.05) <= once


def test_nothing_seen_shows_nothing() -> None:
    assert (lower([], 0.05), upper([], 0.05)) == (0.0, 1.0)
    assert log_wealth_above([], 0.9) == log_wealth_above([(Counts(), 1.0)], 0.9) == 0.0


def test_outcomes_of_weight_zero_are_not_looked_at() -> None:
    assert log_wealth_above([(Counts(5, 5, 500), 0.0)], 0.9) == 0.0


def test_a_million_outcomes_are_three_numbers() -> None:
    assert log_wealth_above([(Counts(50_000, 0, 950_000), 1.0)], 0.9) > 1_000
    assert lower([(Counts(50_000, 0, 950_000), 1.0)], 0.05) == pytest.approx(0.95, abs=0.003)
