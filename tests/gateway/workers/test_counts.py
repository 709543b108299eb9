"""Counting in shared memory: what one process has counted all can tell, and it outlives the process."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers import counts as module
from gateway.workers.counts import Counts, Key, Region, Value


class Family:
    """Makes children as prometheus-client does: by asking for a value."""

    def __init__(self, process: "Process", mode: str = "") -> None:
        self._process = process
        self._mode = mode

    def of(self, *labels: str) -> None:
        self._process.value(*labels, mode=self._mode)


class Process:
    """One process' view of regions that all have mapped."""

    def __init__(self, descriptors: Sequence[int], place: int) -> None:
        self.counts = Counts([Region(descriptor) for descriptor in descriptors], place)
        self._values: dict[tuple[str, str], dict[tuple[str, ...], Value]] = defaultdict(dict)

    def value(self, *labels: str, mode: str = "", name: str = "asked") -> Value:
        known = self._values[name, mode]
        if labels not in known:
            known[labels] = self.counts.value("kind", name, name, (), labels, "", multiprocess_mode=mode)
        return known[labels]

    def gather(self, mode: str = "") -> None:
        for _ in self.counts.gather({"asked": Family(self, mode)}):
            pass


@contextmanager
def three_regions() -> Iterator[list[int]]:
    """Descriptors of files that vanish with the last who has mapped them."""
    made = [Region.make().descriptor for _ in range(3)]
    yield made
    for descriptor in made:
        os.close(descriptor)


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    with three_regions() as made:
        yield made


def test_everybody_tells_the_sum_also_of_what_only_another_has_counted(descriptors: list[int]) -> None:
    one, other, third = (Process(descriptors, place) for place in range(3))
    one.value("small").inc(2)
    other.value("small").inc(3)
    other.value("large").inc(1)
    for process in (one, other, third):
        process.gather()
        assert (process.value("small").get(), process.value("large").get()) == (5, 1)
    other.value("large").inc(1)
    assert third.value("large").get() == 2, "what is known is read as it is now"


def test_a_successor_counts_on_and_tells_what_it_never_counted_itself(descriptors: list[int]) -> None:
    Process(descriptors, 0).value("small").inc(2)
    Process(descriptors, 0).value("large").inc(4)
    successor, other = Process(descriptors, 0), Process(descriptors, 1)
    successor.value("small").inc(1)
    for process in (successor, other):
        process.gather()
        assert (process.value("small").get(), process.value("large").get()) == (3, 4)


def test_what_a_dead_process_was_doing_it_does_no_longer_and_what_it_has_done_stays(descriptors: list[int]) -> None:
    dead, other = Process(descriptors, 0), Process(descriptors, 1)
    for mode, value in (("livesum", 7), ("livemax", 9), ("sum", 5), ("", 3)):
        dead.value("small", mode=mode, name=f"gauge {mode}").set(value)
        other.value("small", mode=mode, name=f"gauge {mode}").set(1)
    Process(descriptors, 2).counts.forget_living(0)
    seen = {}
    for mode in ("livesum", "livemax", "sum", ""):
        list(other.counts.gather({}))
        seen[mode] = other.value("small", mode=mode, name=f"gauge {mode}").get()
    assert seen == {"livesum": 1, "livemax": 1, "sum": 6, "": 4}


def test_a_sum_since_the_start_that_a_successor_sets_does_not_go_back(descriptors: list[int]) -> None:
    Process(descriptors, 0).value("small", mode="sum").set(5)
    successor = Process(descriptors, 0)
    for since_its_start in (0, 1, 2):
        successor.value("small", mode="sum").set(since_its_start)
        assert successor.value("small", mode="sum").get() == 5 + since_its_start


def test_what_all_know_is_told_by_whoever_is_asked(descriptors: list[int]) -> None:
    one, other = Process(descriptors, 0), Process(descriptors, 1)
    one.value("small", mode="livemostrecent").set(0)
    other.value("small", mode="livemostrecent").set(1)
    one.gather("livemostrecent")
    assert one.value("small", mode="livemostrecent").get() == 0


def test_the_most_of_several_is_told_where_a_sum_would_say_nothing(descriptors: list[int]) -> None:
    one, other = Process(descriptors, 0), Process(descriptors, 1)
    one.value("small", mode="livemax").set(1)
    other.value("small", mode="livemax").set(1)
    one.gather("livemax")
    assert one.value("small", mode="livemax").get() == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 9)), max_size=30), st.data())
def test_whoever_counts_and_dies_when_the_sums_are_right(acts: list[tuple[int, str, int]], data: st.DataObject) -> None:
    expected: dict[str, int] = defaultdict(int)
    with three_regions() as descriptors:
        processes = [Process(descriptors, place) for place in range(3)]
        for place, label, amount in acts:
            if data.draw(st.booleans()):
                processes[place] = Process(descriptors, place)
            if data.draw(st.booleans()):
                processes[place].gather()
            processes[place].value(label).inc(amount)
            expected[label] += amount
        for process in processes:
            process.gather()
            assert {label: process.value(label).get() for label in expected} == expected


def test_a_scrape_that_is_broken_off_leaves_the_rest_to_the_next(
    descriptors: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_PER_STEP", 1)
    one, other = Process(descriptors, 0), Process(descriptors, 1)
    for number in range(10):
        other.value(str(number)).inc(1)
    next(one.counts.gather({"asked": Family(one)}))
    one.gather()
    assert [one.value(str(number)).get() for number in range(10)] == [1] * 10


def test_many_values_are_gathered_in_short_steps(descriptors: list[int]) -> None:
    one, other = Process(descriptors, 0), Process(descriptors, 1)
    for number in range(1000):
        other.value(str(number)).inc(1)
    assert sum(1 for _ in one.counts.gather({"asked": Family(one)})) == 1000 / module.KEYS_PER_STEP


def test_without_room_a_process_counts_for_itself(descriptors: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALUES_LIMIT", 2)
    one, other = Process(descriptors, 0), Process(descriptors, 1)
    for label in "abc":
        one.value(label).inc(1)
        other.value(label).inc(1)
    one.gather()
    assert [one.value(label).get() for label in "abc"] == [2, 2, 1]


def test_a_bucket_belongs_to_the_child_without_its_bound() -> None:
    assert Key("seconds", "seconds_bucket", ("small", "0.5"), "").child == ("small",)
    assert Key("seconds", "seconds_sum", ("small",), "").child == ("small",)
