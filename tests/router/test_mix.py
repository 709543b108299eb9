"""Inputs of other lengths are noticed, the same ones are not, in memory that does not grow."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from router import mix
from router.mix import Mix


def lengths(random: Random, number: int, about: float) -> list[int]:
    return [int(random.lognormvariate(about, 0.5)) for _ in range(number)]


def test_the_same_inputs_never_alarm_in_fifty_windows() -> None:
    random, seen = Random(1), Mix()
    for _ in range(52):
        seen, changed = mix.after(seen, lengths(random, mix.WINDOW, 5.0))
        assert not changed

    assert seen.windows == 50


def test_inputs_four_times_as_long_are_noticed_in_one_window() -> None:
    random = Random(1)
    seen, _ = mix.after(Mix(), lengths(random, mix.REFERENCE, 5.0))
    seen, changed = mix.after(seen, lengths(random, mix.WINDOW, 6.4))

    assert changed
    assert seen == Mix()


def test_a_small_change_is_tolerated() -> None:
    random = Random(1)
    seen, _ = mix.after(Mix(), lengths(random, mix.REFERENCE, 5.0))
    for _ in range(20):
        seen, changed = mix.after(seen, lengths(random, mix.WINDOW, 5.1))
        assert not changed


@given(st.lists(st.lists(st.integers(min_value=0, max_value=10**9), max_size=700), max_size=4))
def test_it_does_not_matter_how_requests_are_batched(batches: list[list[int]]) -> None:
    at_once, _ = mix.after(Mix(), [tokens for batch in batches for tokens in batch])
    by_batches, changed = Mix(), False
    for batch in batches:
        by_batches, now = mix.after(by_batches, batch)
        changed = changed or now

    assert changed or at_once == by_batches
    assert sum(by_batches.window) < mix.WINDOW
    assert sum(by_batches.reference) <= mix.REFERENCE
