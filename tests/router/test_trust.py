"""A threshold on looks is only believed where held-back prompts prove it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Model
from router.bar import Bar, Tally, Verdict
from router.evidence import tally_of
from router.outcomes import Outcome
from router.trust import lowest_threshold, thresholds
from tests.router.world import LARGE, MIDDLE, SMALL, outcome

MARGIN = Bar(0.95, margin=0.1)
PASS_RATE = Bar(0.95, pass_rate=0.9)
KEPT, LOST, WON = tally_of(True, True), tally_of(False, True), tally_of(True, False)

Scored = Sequence[tuple[float, Tally]]


def _scored(tallies: Sequence[Tally]) -> Scored:
    """Scores fall from 1.0 in steps of 0.001."""
    return [(1 - place / 1000, tally) for place, tally in enumerate(tallies)]


def _above(scored: Scored, score: float) -> Tally:
    return sum((tally for s, tally in scored if s >= score), Tally())


@pytest.mark.parametrize("bar", [MARGIN, PASS_RATE])
def test_reaches_down_to_the_last_prompt_where_all_is_right(bar: Bar) -> None:
    scored = _scored([KEPT] * 200)
    threshold = lowest_threshold(scored, bar)

    assert threshold is not None
    assert threshold.score == scored[-1][0]
    assert threshold.says.startswith("passed 200/200")


@pytest.mark.parametrize("bar", [MARGIN, PASS_RATE])
def test_stops_above_the_prompts_that_are_lost(bar: Bar) -> None:
    scored = _scored([KEPT] * 200 + [LOST] * 200)
    threshold = lowest_threshold(scored, bar)

    assert threshold is not None
    assert threshold.score >= scored[219][0]  # 20 losses of 220 still hold no bar of 0.1
    assert _above(scored, threshold.score).lost < 20


@pytest.mark.parametrize(
    "scored",
    [
        [],
        _scored([KEPT]),
        _scored([KEPT] * 19),  # fewer than steps
        _scored([KEPT] * 25),  # too few to prove anything
        _scored([LOST] * 400),
        _scored([KEPT, LOST] * 200),
    ],
)
@pytest.mark.parametrize("bar", [MARGIN, PASS_RATE])
def test_is_none_where_nothing_holds(scored: Scored, bar: Bar) -> None:
    assert lowest_threshold(scored, bar) is None


def test_the_first_candidate_that_fails_ends_its_sequence() -> None:
    """Else twenty looks would each have its own chance to be lucky."""
    worst_in_the_middle = _scored([KEPT] * 220 + [LOST] * 60 + [KEPT] * 100)
    threshold = lowest_threshold(worst_in_the_middle, MARGIN)

    assert threshold is not None
    assert threshold.score >= worst_in_the_middle[240][0]  # what comes after would do again, and is not reached


def test_a_few_lost_at_the_top_do_not_end_it_all() -> None:
    """A twentieth of the prompts may fail by bad luck; another sequence starts lower."""
    worst_first = _scored([LOST] * 20 + [KEPT] * 980)
    threshold = lowest_threshold(worst_first, MARGIN)

    assert threshold is not None
    assert threshold.score == worst_first[-1][0]


def test_equal_scores_are_all_counted() -> None:
    """Among equals the order is an accident; a threshold cannot tell them apart."""
    alike = [(0.5, KEPT)] * 100 + [(0.5, LOST)] * 100
    split = [(0.9, KEPT)] * 100 + alike

    assert lowest_threshold(alike, MARGIN) is None
    threshold = lowest_threshold(split, MARGIN)
    assert threshold is not None
    assert threshold.score == 0.9
    assert threshold.says.startswith("passed 100/100")


@given(
    scored=st.lists(
        st.tuples(st.integers(0, 12).map(float), st.sampled_from([KEPT, KEPT, KEPT, KEPT, WON, LOST])), max_size=150
    ),
    bar=st.sampled_from([Bar(0.6, margin=0.3), Bar(0.6, pass_rate=0.6)]),
    order=st.randoms(use_true_random=False),
)
def test_what_is_found_holds_the_bar_in_any_order_of_the_prompts(
    scored: list[tuple[float, Tally]], bar: Bar, order: random.Random
) -> None:
    threshold = lowest_threshold(scored, bar)
    shuffled = list(scored)
    order.shuffle(shuffled)

    assert lowest_threshold(shuffled, bar) == threshold
    if threshold is not None:
        shown = bar.judge(_above(scored, threshold.score))
        assert shown.verdict is Verdict.HOLDS
        assert threshold.says.split(":")[0] == shown.says.split(":")[0]  # its bound is that of a higher confidence


def _rising(score: float) -> float:
    return score  # the pass-rate above t is (1 + t) / 2


def _just_under_the_bar(score: float) -> float:
    return 0.899


@pytest.mark.parametrize(
    ("chance", "holds_from"),
    [(_rising, 0.8), (_just_under_the_bar, 2.0)],  # scores go from 0 to 1, so 2.0 is never
)
@pytest.mark.parametrize("bar", [Bar(0.8, pass_rate=0.9), Bar(0.8, margin=0.1)])
def test_breaks_the_bar_no_more_often_than_its_confidence_allows(
    chance: Callable[[float], float], holds_from: float, bar: Bar
) -> None:
    """On fresh prompts of the same kind. The safe tier is always right here, so both bars ask for the same."""
    repetitions, dice = 300, random.Random(20261123)
    found = broken = 0
    for _ in range(repetitions):
        scored = []
        for _ in range(400):
            score = dice.random()
            scored.append((score, tally_of(dice.random() < chance(score), True)))
        threshold = lowest_threshold(scored, bar)
        if threshold is not None:
            found += 1
            broken += threshold.score < holds_from

    allowed = repetitions * (1 - bar.confidence)
    assert broken <= allowed + 3 * (allowed * bar.confidence) ** 0.5  # three standard deviations of a binomial
    assert found > broken or holds_from > 1  # it is not kept by never finding one


def _calibrated(answers: dict[str, tuple[bool, bool]]) -> list[Outcome]:
    """Each with a chance that is right about it."""
    rows = [outcome(p, SMALL, small) for p, (small, _) in answers.items()]
    rows += [outcome(p, LARGE, large) for p, (_, large) in answers.items()]
    return [replace(o, chance=0.75 if o.correct else 0.25) for o in rows]


EASY = {f"easy-{n}": (True, True) for n in range(100)}
HARD = {f"hard-{n}": (False, True) for n in range(100)}


def _all(template: str, build: str) -> bool:
    return True


def test_each_build_gets_the_threshold_of_its_own_prompts() -> None:
    rows = _calibrated(EASY | HARD)
    found = thresholds([SMALL.build, MIDDLE.build], LARGE.build, rows, _all, MARGIN)

    assert set(found) == {SMALL.build}
    assert found[SMALL.build].score == 0
    assert found[SMALL.build].says.startswith("passed 100/100, lost 0 and won 0 of 100")


def test_templates_that_looks_do_not_decide_prove_nothing() -> None:
    decided = [replace(o, template="decided") for o in _calibrated(EASY)]
    rows = [*decided, *_calibrated(HARD)]

    assert thresholds([SMALL.build], LARGE.build, rows, lambda template, build: template != "decided", MARGIN) == {}
    assert SMALL.build in thresholds([SMALL.build], LARGE.build, rows, _all, MARGIN)


def test_prompts_that_the_safe_tier_has_not_answered_prove_nothing() -> None:
    rows = [o for o in _calibrated(EASY) if o.build == SMALL.build]

    assert thresholds([SMALL.build], LARGE.build, rows, _all, PASS_RATE) == {}


@pytest.mark.parametrize("fitted", [SMALL, LARGE])
def test_outcomes_without_the_chances_of_both_prove_nothing(fitted: Model) -> None:
    rows = [o if o.build == fitted.build else replace(o, chance=None) for o in _calibrated(EASY)]

    assert thresholds([SMALL.build], LARGE.build, rows, _all, MARGIN) == {}
