"""An alarm is rare while nothing is wrong and soon when something is."""

from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import alarm

OUTCOMES = 200


def first_alarm(random: Random, rate: float, mean: float, *, outcomes: float = OUTCOMES, weight: float = 1.0) -> int:
    wealth = alarm.QUIET
    for place in count(1):
        wealth = alarm.after(wealth, float(random.random() < rate), mean, weight)
        if alarm.sounds(wealth, outcomes):
            return place
    raise AssertionError


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_alarms_while_a_model_is_at_the_bar_are_as_far_apart_as_promised(weight: float) -> None:
    random = Random(3)
    lengths = [first_alarm(random, 0.9, 0.9, weight=weight) for _ in range(100)]

    assert sum(lengths) / len(lengths) >= OUTCOMES


@pytest.mark.parametrize(("rate", "within"), [(0.3, 25), (0.6, 60), (0.75, 250)])
def test_a_change_is_noticed_however_long_all_was_well_before(rate: float, within: int) -> None:
    random, wealth = Random(5), alarm.QUIET
    for _ in range(5_000):
        wealth = alarm.after(wealth, float(random.random() < 0.97), 0.9)
    assert not alarm.sounds(wealth, 5_000)
    for _ in range(within):
        wealth = alarm.after(wealth, float(random.random() < rate), 0.9)

    assert alarm.sounds(wealth, 5_000)


@given(
    outcomes=st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=50),
    mean=st.floats(min_value=0.05, max_value=0.95),
    weight=st.floats(min_value=0, max_value=1),
)
def test_the_wealth_never_runs_out(outcomes: list[float], mean: float, weight: float) -> None:
    """So no run of good outcomes makes it deaf."""
    wealth = alarm.QUIET
    for outcome in outcomes:
        wealth = alarm.after(wealth, outcome, mean, weight)

    assert all(one >= 0 for one in wealth)


@given(mean=st.floats(min_value=0.05, max_value=0.95), weight=st.floats(min_value=0, max_value=1))
def test_a_bet_is_fair_at_the_bar(mean: float, weight: float) -> None:
    """The expected wealth grows by what new bettors bring, 1 for each stake."""
    before = (3.0,) * len(alarm.STAKES)
    failed, passed = alarm.after(before, 0.0, mean, weight), alarm.after(before, 1.0, mean, weight)
    expected = [(1 - mean) * f + mean * p for f, p in zip(failed, passed, strict=True)]

    assert expected == pytest.approx([4.0] * len(alarm.STAKES))
