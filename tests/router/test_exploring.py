"""Requests are drawn by their ids alone, in the share that was asked for."""

from dataclasses import replace
from random import Random

import pytest

from router.bar import Bar, Shown, Tally, Verdict
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.exploring import choose, is_drawn, number_of, undecided
from tests.router.world import LARGE, SMALL

KNOWLEDGE = Knowledge((SMALL, LARGE), Evidence({}), Difficulty({}), {}, Bar(0.95, pass_rate=0.9))


def ids(count: int) -> list[str]:
    chance = Random(1)
    return [f"req_{chance.getrandbits(120):030x}" for _ in range(count)]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 1.0])
def test_the_share_of_requests_is_drawn_that_was_asked_for(share: float) -> None:
    drawn = sum(is_drawn(number_of(id), share) for id in ids(20_000)) / 20_000
    assert abs(drawn - share) < 0.01


def test_models_are_chosen_equally_often_among_the_drawn() -> None:
    share, models = 0.2, [SMALL, LARGE, SMALL.model_copy(update={"name": "other"})]
    drawn = [number for id in ids(20_000) if is_drawn(number := number_of(id), share)]
    for model in models:
        chosen = sum(choose(models, number, share) is model for number in drawn) / len(drawn)
        assert abs(chosen - 1 / 3) < 0.03


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_only_what_is_open_is_explored_and_never_the_safe_tier(verdict: Verdict | None) -> None:
    learned = {("t", SMALL.build): Shown(verdict, 0, 1, "")} if verdict else {}
    found = undecided("t", [SMALL, LARGE], KNOWLEDGE.learning(learned))
    assert found == ([SMALL] if verdict in (None, Verdict.UNKNOWN, Verdict.SUSPENDED) else [])


@pytest.mark.parametrize("bar", [Bar(0.95, pass_rate=0.9), Bar(0.95, margin=0.1)])
@pytest.mark.parametrize(("upper", "explored"), [(0.02, True), (-0.02, False)])
def test_what_agrees_too_seldom_to_be_proved_by_agreement_costs_no_more_money(
    bar: Bar, upper: float, explored: bool
) -> None:
    """*upper*: beyond the bar."""
    at = (bar.pass_rate or -0.1) + upper
    knowledge = Knowledge((SMALL, LARGE), Evidence({}), Difficulty({}), {}, bar)
    learned = knowledge.learning({("t", SMALL.build): Shown(Verdict.UNKNOWN, -1, at, "")})
    assert bool(undecided("t", [SMALL], learned)) == explored


def test_what_a_table_has_decided_is_not_explored() -> None:
    tally = Tally(passed=100, total=100, paired=100)
    known = Knowledge((SMALL, LARGE), Evidence({("t", SMALL.build): tally}), Difficulty({}), {}, KNOWLEDGE.bar)
    assert undecided("t", [SMALL], known) == []
    assert undecided("other", [SMALL], known) == [SMALL]


def test_a_model_that_is_not_compared_with_the_safe_tier_is_not_explored() -> None:
    """It is served under a key that may not use the safe tier."""
    fewer = replace(KNOWLEDGE, models=(LARGE,))
    assert undecided("t", [SMALL], fewer) == []
