"""The router stays small: the promise that `python -m tests.bench memory` measures."""

from tests.bench.memory import take

LIMIT_BYTES = 60 * 10**6


def test_the_router_stays_small_and_imports_nothing_heavy() -> None:
    """Six models, 200 templates with records at their limits, and thousands of new system messages."""
    taken = take()
    steps = {name: now - taken.bare_bytes for name, now, _ in taken.steps}
    assert not taken.heavy
    assert len(steps) == len(taken.steps) == 6
    assert max(list(steps.values())[:-1]) < LIMIT_BYTES, steps
