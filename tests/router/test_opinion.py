"""An answer is released because a second model says the same only where held-back prompts prove that this holds."""

import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Model
from router.bar import Bar, Cause, Shown, Tally, Verdict
from router.check import Check, Verifier
from router.decision import Candidate, Knowledge, Question
from router.difficulty import Difficulty
from router.evidence import Evidence, tally_of
from router.knowledge import make_knowledge
from router.ladder import Split
from router.opinion import SecondOpinion, agree, second_opinions
from router.outcomes import Outcome
from router.signals import Signals
from router.strategies.evidence_first import choose
from tests.router.world import LARGE, MIDDLE, SMALL, THREE, ids, outcome

MARGIN = Bar(0.95, margin=0.1)
BUILDS = (SMALL.build, MIDDLE.build)
GRADERS = {"template": "exact"}
SOUND = Signals(3, finish_reason="stop")
OPINION = SecondOpinion("b", "exact", 0.5, "passed 60/60")


def prompt(place: int, agrees: bool, correct: bool, safe_correct: bool) -> list[Outcome]:
    """What all three answer to one prompt. Of two that say the same both are right or neither is."""
    key = f"p{place}"
    answer = replace(outcome(key, MIDDLE, correct), said="same")
    second = replace(outcome(key, SMALL, correct and agrees), said="same" if agrees else "other")
    return [answer, second, outcome(key, LARGE, safe_correct)]


def rows(prompts: Sequence[tuple[bool, bool, bool]]) -> list[Outcome]:
    return [row for place, told in enumerate(prompts) for row in prompt(place, *told)]


def found(known: Sequence[Outcome], bar: Bar = MARGIN) -> tuple[SecondOpinion, ...]:
    opinions = second_opinions(BUILDS, LARGE.build, known, GRADERS, bar, 2.0)
    assert set(opinions) <= {("template", MIDDLE.build)}
    return opinions.get(("template", MIDDLE.build), ())


prompts = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=150)
bars = st.sampled_from([Bar(0.6, margin=0.3), Bar(0.6, pass_rate=0.6), MARGIN])


@given(prompts, bars)
def test_what_is_released_holds_the_bar_together_with_what_is_not(
    told: list[tuple[bool, bool, bool]], bar: Bar
) -> None:
    for opinion in found(rows(told), bar):
        served = [(correct if agrees else safe, safe) for agrees, correct, safe in told]
        assert bar.judge(sum((tally_of(*pair) for pair in served), Tally())).verdict is Verdict.HOLDS
        assert opinion.release_share == sum(agrees for agrees, _, _ in told) / len(told) > 0
        assert (opinion.second, opinion.grade, opinion.hold_seconds) == (SMALL.build, "exact", 2.0)


@given(prompts.filter(bool), st.data())
def test_one_more_loss_never_earns_a_second_opinion(told: list[tuple[bool, bool, bool]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(told) - 1))
    worse = [*told[:place], (True, False, True), *told[place + 1 :]]
    better = [*told[:place], (True, True, True), *told[place + 1 :]]
    assert not found(rows(worse)) or found(rows(better))


@given(prompts, st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(told: list[tuple[bool, bool, bool]], order: random.Random) -> None:
    known = rows(told)
    shuffled = list(known)
    order.shuffle(shuffled)
    assert found(shuffled) == found(known)


@pytest.mark.parametrize("bar", [Bar(0.8, pass_rate=0.9), Bar(0.8, margin=0.1)])
def test_breaks_the_bar_no_more_often_than_its_confidence_allows(bar: Bar) -> None:
    """A third agrees and is wrong as often as just breaks the bar; the safe tier is always right."""
    repetitions, dice = 300, random.Random(20261125)
    wrong_when_agreed = 0.101 * 3
    broken = 0
    for _ in range(repetitions):
        told = [
            (agrees, not agrees or dice.random() >= wrong_when_agreed, True)
            for agrees in (dice.random() < 1 / 3 for _ in range(100))
        ]
        broken += bool(found(rows(told), bar))

    allowed = repetitions * (1 - bar.confidence)
    assert 0 < broken <= allowed + 3 * (allowed * bar.confidence) ** 0.5  # three standard deviations of a binomial


def test_second_opinions_on_one_answer_share_the_error() -> None:
    """What one alone may release takes more prompts where there are two to choose from."""
    four = (SMALL, MIDDLE, LARGE)

    def known(count: int) -> list[Outcome]:
        return [replace(outcome(f"p{n}", m, True), said="same") for n in range(count) for m in four]

    def of_large(count: int, builds: Sequence[str]) -> int:
        bar = Bar(0.95, pass_rate=0.9)
        return len(
            second_opinions(builds, LARGE.build, known(count), GRADERS, bar, 1.0).get(("template", builds[-1]), ())
        )

    alone, both = (MIDDLE.build, LARGE.build), (SMALL.build, MIDDLE.build, LARGE.build)
    assert [of_large(count, alone) for count in (28, 29, 35, 36)] == [0, 1, 1, 1]  # 0.9 ** 29 < 0.05
    assert [of_large(count, both) for count in (28, 29, 35, 36)] == [0, 0, 0, 2]  # 0.9 ** 36 < 0.025


def test_nobody_is_asked_about_a_cheaper_model_nor_where_no_grader_reads_the_answers() -> None:
    known = rows([(True, True, True)] * 100)
    assert len(found(known)) == 1
    assert second_opinions(BUILDS, LARGE.build, known, {}, MARGIN, 1.0) == {}
    assert second_opinions(BUILDS[:1], LARGE.build, known, GRADERS, MARGIN, 1.0) == {}


def test_where_nothing_would_be_released_there_is_no_second_opinion() -> None:
    assert found(rows([(False, True, True)] * 100)) == ()


def test_what_nobody_read_is_left_out_and_what_says_nothing_agrees_with_nothing() -> None:
    told = rows([(True, True, True)] * 100)
    unread = [replace(row, said="") if row.prompt_id < "p5" else row for row in told]
    empty = [replace(row, said="", seconds=0.1) if row.prompt_id < "p5" else row for row in told]
    left = sum(row.prompt_id >= "p5" for row in told) // 3
    [without], [with_them] = found(unread), found(empty)
    assert without.release_share == 1
    assert with_them.release_share == left / 100


@pytest.mark.parametrize("fields", [{"finish_reason": "length"}, {"said": "other"}, {"said": ""}])
def test_only_whole_answers_that_say_the_same_agree(fields: dict[str, str]) -> None:
    one = replace(outcome("p", SMALL, True), said="same")
    assert agree(one, one)
    assert not agree(one, replace(one, **fields))  # type: ignore[arg-type]  # texts
    assert not agree(replace(one, **fields), one)  # type: ignore[arg-type]  # texts


def test_prompts_kept_for_judgement_are_not_looked_at() -> None:
    def known(*splits: Split) -> Knowledge:
        every = [prompt_id for split in splits for prompt_id in ids(split, 60)]
        told = [replace(outcome(p, model, True), said="same") for p in every for model in THREE]
        return make_knowledge(THREE, MARGIN, told, Difficulty({}), graders=GRADERS)

    assert known(Split.TEST).second_opinions == {}
    assert set(known(Split.FIT).second_opinions) == {("template", MIDDLE.build)}
    assert known(Split.FIT, Split.TEST).second_opinions == known(Split.FIT).second_opinions


@given(st.text(max_size=8), st.none() | st.text(max_size=8))
def test_it_passes_only_what_says_something_and_the_same(answer: str, other: str | None) -> None:
    passes = OPINION.passes(SOUND, answer, other)
    assert not passes or (other is not None and bool(answer.strip()))
    assert not passes or OPINION.passes(SOUND, other or "", answer)
    assert OPINION.passes(SOUND, f"It is so. Answer: {answer}x", f"answer: {answer}X.")


@pytest.mark.parametrize(
    ("signals", "other", "why"),
    [
        (None, "up", "in time"),
        (replace(SOUND, finish_reason="length"), "up", "none"),
        (replace(SOUND, refuses=True), "up", "none"),
        (replace(SOUND, well_formed=False), "up", "none"),
        (replace(SOUND, tokens=0), "up", "none"),
        (SOUND, None, "no second opinion"),
        (SOUND, "down", "another"),
    ],
)
def test_what_fails_says_why(signals: Signals | None, other: str | None, why: str) -> None:
    assert OPINION.passes(SOUND, "up", "up")
    assert not OPINION.passes(signals, "up", other)
    assert why in OPINION.failure(signals, other)


def knowing(opinions: Sequence[SecondOpinion]) -> Knowledge:
    by_key = {("t", MIDDLE.build): tuple(opinions)}
    return Knowledge(THREE, Evidence({}), Difficulty({}), {}, MARGIN, second_opinions=by_key)


def test_only_models_that_may_answer_are_asked_and_only_of_whole_answers() -> None:
    opinion = replace(OPINION, second=SMALL.build)
    known, question = knowing([opinion]), Question("t", checkable=True)
    assert known.opinions(question, MIDDLE) == (opinion,)
    assert known.opinions(question, SMALL) == ()
    assert known.among({MIDDLE.name, LARGE.name}).opinions(question, MIDDLE) == ()
    assert known.among({SMALL.name, MIDDLE.name}).opinions(question, MIDDLE) == ()
    assert known.held_to(Bar(0.95, margin=0.05)).opinions(question, MIDDLE) == ()
    assert known.held_to(Bar(0.95, margin=0.2)).opinions(question, MIDDLE) == (opinion,)
    for other in (
        replace(question, streamed=True),
        replace(question, checkable=False),
        replace(question, template="u"),
    ):
        assert known.opinions(other, MIDDLE) == ()


@pytest.mark.parametrize("suspended", [SMALL, MIDDLE])
def test_an_alarm_on_either_model_ends_it_and_one_elsewhere_does_not(suspended: Model) -> None:
    opinion = replace(OPINION, second=SMALL.build)
    known, question = knowing([opinion]), Question("t", checkable=True)
    shown = Shown(Verdict.SUSPENDED, 0.0, 1.0, "suspended", Cause.RATE_FELL)
    assert known.learning({("t", suspended.build): shown}).opinions(question, MIDDLE) == ()
    assert known.learning({("u", suspended.build): shown}).opinions(question, MIDDLE) == (opinion,)


@pytest.mark.parametrize(
    ("small_usd", "middle_usd", "large_usd", "share", "chosen"),
    [
        (1, 4, 10, 0.51, "middle"),  # 1 + 4 + 0.49 * 10 = 9.9
        (1, 4, 10, 0.5, "large"),  # 10, which is no less
        (1, 4, 10, 0.4, "large"),
        (9, 1, 10, 1.0, "large"),
        (None, 1, 10, 1.0, "large"),  # what is not known is not little
    ],
)
def test_a_second_opinion_is_asked_only_where_all_answers_cost_less_than_the_safe_one(
    small_usd: int | None, middle_usd: int, large_usd: int, share: float, chosen: str
) -> None:
    usd = [None if one is None else Decimal(one) for one in (small_usd, middle_usd, large_usd)]
    names, opinion = ("small", "middle", "large"), replace(OPINION, second="small", release_share=share)
    small, middle, large = (Candidate(name, name, one) for name, one in zip(names, usd, strict=True))
    decision = choose((small, replace(middle, opinions=(opinion,)), large), "t")
    assert (decision.model, decision.second) == (chosen, "small" if chosen == "middle" else None)
    assert (decision.check == opinion) == (chosen == "middle")


def test_of_two_ways_to_look_at_an_answer_the_cheaper_one_is_chosen() -> None:
    """Signals cost nothing; a second opinion has to release so much more."""
    verifier = Verifier(0.0, (0.0,) * 4, (0.0,) * 4, (1.0,) * 4)
    small, large = Candidate("small", "small", Decimal(1)), Candidate("large", "large", Decimal(10))

    def second(by_signals: float, by_opinion: float) -> str | None:
        check = Check(verifier, 0.5, by_signals, "")
        opinion = replace(OPINION, second="small", release_share=by_opinion)
        middle = Candidate("middle", "middle", Decimal(4), check=check, opinions=(opinion,))
        return choose((small, middle, large), "t").second

    assert second(by_signals=0.5, by_opinion=0.55) is None
    assert second(by_signals=0.5, by_opinion=0.65) == "small"
