"""When a replica is left alone, for how long, and how it comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.breaker import (
    FAILURES_IN_A_ROW,
    FIRST_OPEN_SECONDS,
    LONGEST_OPEN_SECONDS,
    WINDOW_MINIMUM_CALLS,
    WINDOW_SECONDS,
    Breaker,
    BreakerState,
)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failure(at)
    return breaker


def test_it_opens_after_five_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW - 1):
        breaker.failure(0.0)
        assert breaker.admits(0.0)
    breaker.failure(0.0)
    assert (breaker.state, breaker.admits(0.0), breaker.opened_total) == (BreakerState.OPEN, False, 1)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.success()
        breaker.success()
        breaker.failure(0.0)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(("successes", "state"), [(1, BreakerState.OPEN), (2, BreakerState.CLOSED)])
def test_it_opens_when_half_of_enough_calls_fail_even_if_never_in_a_row(successes: int, state: BreakerState) -> None:
    breaker = Breaker()
    breaker.failure(0.0)
    for _ in range(WINDOW_MINIMUM_CALLS):
        for _ in range(successes):
            breaker.success()
        breaker.failure(0.0)
    assert breaker.state is state


def test_failures_of_an_earlier_window_do_not_count() -> None:
    breaker = Breaker()
    for turn in range(WINDOW_MINIMUM_CALLS):
        breaker.failure(turn * WINDOW_SECONDS / 5)
        breaker.success()
    assert breaker.state is BreakerState.CLOSED


def test_after_a_while_one_call_may_pass_and_its_success_closes_it() -> None:
    breaker = opened()
    assert not breaker.admits(FIRST_OPEN_SECONDS - 0.01)
    assert breaker.admits(FIRST_OPEN_SECONDS)
    breaker.let_in(FIRST_OPEN_SECONDS)
    assert (breaker.state, breaker.admits(FIRST_OPEN_SECONDS)) == (BreakerState.HALF_OPEN, False)
    breaker.success()
    assert (breaker.state, breaker.admits(FIRST_OPEN_SECONDS)) == (BreakerState.CLOSED, True)


def test_it_stays_open_longer_after_each_failed_probe_up_to_a_limit() -> None:
    breaker, now, stays = opened(), 0.0, []
    for _ in range(6):
        stays.append(breaker.until - now)
        now = breaker.until
        breaker.let_in(now)
        breaker.failure(now)
    assert stays == [2.0, 4.0, 8.0, 16.0, LONGEST_OPEN_SECONDS, LONGEST_OPEN_SECONDS]


def test_once_closed_it_opens_for_the_shortest_time_again() -> None:
    breaker = opened()
    breaker.let_in(2.0)
    breaker.failure(2.0)
    breaker.let_in(6.0)
    breaker.success()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failure(6.0)
    assert breaker.until == 6.0 + FIRST_OPEN_SECONDS


def test_calls_begun_before_it_opened_change_nothing() -> None:
    breaker = opened()
    until = breaker.until
    breaker.failure(1.0)
    breaker.success()
    breaker.abandoned(1.0)
    assert (breaker.state, breaker.until) == (BreakerState.OPEN, until)


def test_a_probe_that_is_cancelled_lets_the_next_call_try_at_once() -> None:
    breaker = opened()
    breaker.let_in(2.0)
    breaker.abandoned(2.5)
    assert breaker.admits(2.5)


def test_a_probe_that_does_not_come_back_is_not_waited_for_for_ever() -> None:
    breaker = opened()
    breaker.let_in(2.0)
    assert breaker.admits(2.0 + FIRST_OPEN_SECONDS)


@given(st.lists(st.sampled_from(["call", "success", "failure", "abandoned"])), st.lists(st.floats(0, 50)))
def test_whatever_happened_it_admits_a_call_again_within_the_longest_time(
    events: list[str], pauses: list[float]
) -> None:
    breaker, now = Breaker(), 0.0
    for event, pause in zip(events, pauses + [0.0] * len(events), strict=False):
        now += pause
        if event == "success":
            breaker.success()
        elif event == "failure":
            breaker.failure(now)
        elif event == "abandoned":
            breaker.abandoned(now)
        elif breaker.admits(now):
            breaker.let_in(now)
        assert breaker.admits(now + LONGEST_OPEN_SECONDS)
