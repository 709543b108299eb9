"""Figures of each way to choose are what counting the answers gives; what nobody told is unknown."""

from decimal import Decimal

import pytest

from router.bounds import lower_bound
from router.through import Offer, Passed, Served
from router.ways import Comparison, Spent, Terms, compare, document_of

OFFER = Offer((Served("small", "b-small", 0, True), Served("large", "b-large", 1, True)))
TERMS = Terms(OFFER, parallel=2, watts=36.0)


def passed(way: str, number: int, correct: bool, *, model: str | None = None, task: str = "sums") -> Passed:
    return Passed(
        way=way,
        build=OFFER.build_of(way),
        prompt_id=f"p{number}",
        task=task,
        correct=correct,
        model=model or way,
        basis="evidence" if way == "auto" else "pinned",
        request_id=f"{way}-{number}",
        prompt_tokens=10,
        completion_tokens=2,
        seconds=1.0 + number,
        finish_reason="stop",
    )


ANSWERS = [
    *(
        passed("auto", n, n != 3, model="small" if n < 3 else "large", task="sums" if n < 2 else "words")
        for n in range(4)
    ),
    *(passed("small", n, n < 3, task="sums" if n < 2 else "words") for n in range(4)),
    *(passed("large", n, n > 0, task="sums" if n < 2 else "words") for n in range(4)),
]
SPENT = {a.request_id: Spent(Decimal("0.001"), 3) for a in ANSWERS if a.request_id}


def whole(answers: list[Passed] = ANSWERS) -> Comparison:
    return compare(answers, SPENT, TERMS)[0]


def test_each_way_is_counted_on_its_own_answers() -> None:
    auto, small, large = whole().ways

    assert [way.way for way in whole().ways] == ["auto", "small", "large"]
    assert (auto.prompts, auto.right, auto.accuracy) == (4, 3, 0.75)
    assert auto.interval[0] == lower_bound(3, 4, 0.975)
    assert (small.large_share, auto.large_share, large.large_share) == (0, 0.25, 1)
    assert (auto.prompt_tokens, auto.completion_tokens, auto.discarded_tokens) == (40, 8, 12)
    assert (auto.cost_usd, auto.seconds_p50) == (Decimal("0.004"), 2.5)
    assert (auto.answered_by, auto.bases) == ({"small": 3, "large": 1}, {"evidence": 4})


def test_energy_is_watts_times_the_time_that_the_machine_was_busy() -> None:
    """Ten seconds in all, two answers at a time: five seconds of 36 W are 0.05 Wh."""
    assert whole().ways[0].energy_wh == pytest.approx(0.05)
    assert compare(ANSWERS, SPENT, Terms(OFFER, 2))[0].ways[0].energy_wh is None


def test_auto_is_compared_with_the_safe_tier_prompt_by_prompt() -> None:
    difference = whole().difference

    assert difference is not None
    assert (difference.to, difference.pairs, difference.won, difference.lost) == ("large", 4, 1, 1)
    assert difference.difference == 0
    assert difference.interval[0] < 0 < difference.interval[1]
    assert whole([a for a in ANSWERS if a.way != "large"]).difference is None


def test_a_cost_that_the_ledger_has_only_in_part_is_unknown_and_never_less() -> None:
    one_missing = {request_id: spent for request_id, spent in SPENT.items() if request_id != "auto-2"}
    free = {**SPENT, "auto-2": Spent(None, None)}

    assert compare(ANSWERS, one_missing, TERMS)[0].ways[0].cost_usd is None
    assert compare(ANSWERS, one_missing, TERMS)[0].ways[0].discarded_tokens is None
    assert compare(ANSWERS, free, TERMS)[0].ways[0].cost_usd is None


def test_tasks_are_compared_each_for_itself() -> None:
    _, sums, words = compare(ANSWERS, SPENT, TERMS)

    assert (sums.task, [way.right for way in sums.ways]) == ("sums", [2, 2, 1])
    assert (words.task, [way.right for way in words.ways]) == ("words", [1, 1, 2])
    document = document_of(compare(ANSWERS, SPENT, TERMS), TERMS)
    assert [task["task"] for task in document["tasks"]] == ["sums", "words"]
    assert document["tasks"][0]["difference"]["won"] == 1
    assert document["ways"][0]["cost_usd"] == 0.004
