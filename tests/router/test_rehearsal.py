"""A short rehearsal of the promise: the real decision code keeps it, and what looks simpler does not."""

import pytest

from router.bar import Bar
from router.rehearsal import FixedSize, PlainAverage, Pointsman, rehearse_all

PASS_RATE, MARGIN = Bar(0.95, pass_rate=0.9), Bar(0.95, margin=0.1)


@pytest.mark.parametrize("bar", [PASS_RATE, MARGIN])
def test_the_promise_is_kept_and_earns_something(bar: Bar) -> None:
    told: list[str] = []
    done = rehearse_all(bar, range(12), told.append, judges=(Pointsman,))[Pointsman.name]

    assert done.broken <= 2  # of 12 at 5 %: more has a chance of 2 %
    assert done.share(lambda run: run.served, lambda run: run.requests) > 0
    assert told == [Pointsman.name] * 12


def test_bounds_that_are_looked_at_again_and_again_break_it() -> None:
    done = rehearse_all(PASS_RATE, range(12), lambda name: None, judges=(FixedSize, PlainAverage))

    assert done[FixedSize.name].broken >= 1
    assert done[PlainAverage.name].broken >= 6


def test_a_rehearsal_is_the_same_every_time() -> None:
    one, other = (
        rehearse_all(PASS_RATE, [4], lambda name: None, requests=300, judges=(PlainAverage,)) for _ in range(2)
    )

    assert one[PlainAverage.name].runs == other[PlainAverage.name].runs
