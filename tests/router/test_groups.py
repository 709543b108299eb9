"""Nearly the same fixed parts are one group, other tasks never are, and a million of them take no memory."""

from collections.abc import Iterable
from sys import getsizeof
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.message import template_key
from router.groups import (
    BUCKETS_LIMIT,
    CLUSTERS_LIMIT,
    DISTINCT,
    OFTEN,
    ROOM_LIMIT_BYTES,
    SEEN_LIMIT,
    TEXT_LIMIT_CHARACTERS,
    Groups,
)

TASK = "You sort letters of customers of a bank by what they are about and answer with one of the words that follow"


def body(system: object, **others: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": "x"}], **others}


def of(groups: Groups, system: object, **others: Any) -> str | None:
    asked = body(system, **others)
    return groups.of(template_key(asked) or "", asked)


def found(systems: Iterable[str]) -> set[str | None]:
    """The groups of what is sent after these have all been sent once."""
    groups, systems = Groups(), list(systems)
    for system in systems:
        of(groups, system)
    return {of(groups, f"{system}") for system in systems[DISTINCT:]}


@pytest.mark.parametrize(
    "varying",
    [
        ("2026-11-25", "2024-01-02"),
        ("2026-11-25T18:30:00Z", "2026-11-25T18:31:07+01:00"),
        ("25.11.2026", "1/2/2026"),
        ("Wednesday, November 25, 2026", "3 March 2025"),
        ("18:30", "07:05:59"),
        ("ann@example.org", "bob.b+x@mail.example.org"),
        ("6f9619ff-8b86-d011-b42d-00c04fc964ff", "123e4567-e89b-12d3-a456-426614174000"),
        ("d41d8cd98f00b204e9800998ecf8427e", "9e107d9d372bb6826bd81d3542a419d6"),
    ],
)
def test_what_is_no_task_by_its_form_is_one_group_at_once(varying: tuple[str, str]) -> None:
    groups = Groups()
    keys = {of(groups, f"{TASK}. Now: {one}.") for one in varying}

    assert len(keys) == 1
    assert keys != {None}
    assert of(groups, f"{TASK}. Now: {varying[0]}.", tools=[{"type": "function"}]) not in keys
    assert of(groups, f"{TASK} in French. Now: {varying[0]}.") not in keys


@pytest.mark.parametrize("one", ["in 5 words", "in 500 words", "rule 12 holds", "version 3.2", "bank 4711"])
def test_other_numbers_are_a_part_of_the_task(one: str) -> None:
    assert of(Groups(), f"{TASK} {one}") is None


def test_a_name_that_varies_is_found_once_it_has_been_seen_to() -> None:
    groups = Groups()
    keys = [of(groups, f"{TASK}. You talk to Name{n}.") for n in range(4 * DISTINCT)]

    assert keys[: DISTINCT - 1] == [None] * (DISTINCT - 1)
    assert len(set(keys[DISTINCT:])) == 1
    assert keys[-1] is not None


def test_a_dozen_tasks_that_differ_in_a_word_stay_apart_however_often_they_are_asked() -> None:
    groups = Groups()
    languages = [f"language{n}" for n in range(DISTINCT - 1)]

    assert {of(groups, f"{TASK} in {name}") for _ in range(100) for name in languages} == {None}


def test_what_is_sent_often_is_a_task_of_its_own() -> None:
    groups = Groups()
    for n in range(2 * DISTINCT):
        of(groups, f"{TASK}. You talk to Name{n}.")
    keys = [of(groups, f"{TASK}. You talk to Ann.") for _ in range(2 * OFTEN)]

    assert keys[0] is not None
    assert set(keys[OFTEN:]) == {None}


def test_a_group_that_was_found_takes_in_nothing_that_differs_elsewhere() -> None:
    groups = Groups()
    for n in range(2 * DISTINCT):
        known = of(groups, f"{TASK}. You talk to Name{n}.")
    other = of(groups, f"{TASK.replace('bank', 'clinic')}. You talk to Name1.")

    assert known is not None
    assert other != known


def test_every_process_calls_the_same_group_by_the_same_name() -> None:
    names = [f"{TASK}. You talk to Name{n}." for n in range(100)]

    assert found(names) == found(reversed(names)) != {None}


@pytest.mark.parametrize("system", [[{"type": "text", "text": "2026-01-01"}], "", None, 7, "\0 2026-01-01", "x" * 9000])
def test_what_cannot_be_compared_stands_for_itself(system: object) -> None:
    assert of(Groups(), system) is None


@given(st.lists(st.text(max_size=40), max_size=30))
def test_any_text_is_answered(texts: list[str]) -> None:
    groups = Groups()
    for text in texts:
        group = of(groups, f"{TASK} {text}")
        assert group is None or len(group) == 16


def room_bytes(groups: Groups) -> int:
    """What the words take, counted anew; each limit is held."""
    assert len(groups._seen) <= SEEN_LIMIT
    assert len(groups._buckets) <= BUCKETS_LIMIT
    assert max(map(len, groups._buckets.values())) <= CLUSTERS_LIMIT
    clusters = [cluster for bucket in groups._buckets.values() for cluster in bucket]
    assert all(len(values) <= DISTINCT for cluster in clusters for values in cluster.holes.values())
    counted = sum(getsizeof(word) + 8 for cluster in clusters for word in cluster.words)
    assert counted == groups._room_bytes <= ROOM_LIMIT_BYTES
    return counted


def test_two_hundred_thousand_distinct_fixed_parts_take_no_more_room_than_the_limits() -> None:
    groups = Groups()
    for n in range(200_000):
        of(groups, " ".join(str(n * k) for k in range(1, 14 + n % 700)) if n % 50 == 0 else f"task {n}")

    assert len(groups._seen) == SEEN_LIMIT
    assert room_bytes(groups) > 0


@pytest.mark.parametrize(
    ("word", "words"), [("{:02x}", 1360), ("\U0001f600" * 250 + "{:02x}", 16)], ids=["short words", "wide words"]
)
def test_fixed_parts_as_large_as_can_be_take_no_more_room_than_the_limits(word: str, words: int) -> None:
    """Before there was a limit in bytes these took 400 MB."""
    groups = Groups()
    for n in range(2_000):
        text = " ".join(word.format((n * 7919 + k * k) % 256) for k in range(words))
        assert TEXT_LIMIT_CHARACTERS - 60 < len(text) < TEXT_LIMIT_CHARACTERS - len("system ")
        of(groups, text, tools=[{"type": "function", "function": {"name": f"tool{n % 600}"}}])

    assert room_bytes(groups) > ROOM_LIMIT_BYTES / 2


@pytest.mark.parametrize(
    "unit", ["a.", "a@", "a@b.", "-", "f", "0f", "2026-", "jan ", "Monday, ", "1:", " ", "\n", "\u00e9", "\u2028"]
)
def test_a_repeated_text_ends_in_time(unit: str) -> None:
    """What makes a pattern explode; a hang is ended by the suite's time limit, so nothing is timed here."""
    for characters in (TEXT_LIMIT_CHARACTERS - 100, 1_000_000):
        group = of(Groups(), f"{unit * (characters // len(unit))} 1@")
        assert group is None or len(group) == 16
