"""Extra work stays a fifth of the work that was asked for."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.budget import EXTRA_MINIMUM, EXTRA_SHARE, Budget


@given(st.lists(st.booleans()), st.integers(min_value=0, max_value=1000))
def test_never_more_than_a_fifth_of_the_calls_and_three(spending: list[bool], active: int) -> None:
    budget, spent = Budget(), 0
    for calls, spend in enumerate(spending, start=1):
        budget.earn()
        spent += spend and budget.spend(active)
        assert spent <= EXTRA_SHARE * calls + EXTRA_MINIMUM + 1e-6


def test_three_may_be_spent_without_having_been_earned() -> None:
    budget = Budget()
    assert [budget.spend(0) for _ in range(4)] == [True, True, True, False]


def test_a_long_good_time_saves_no_more_than_a_fifth_of_what_is_active_then() -> None:
    for active, expected in [(0, 3), (15, 3), (100, 20)]:
        budget = Budget()
        for _ in range(10_000):
            budget.earn()
        assert sum(budget.spend(active) for _ in range(1000)) == expected
