"""Every number of the report, on a world so small that it can be checked by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Model
from router.bar import Bar
from router.decision import Basis, Decision, Knowledge, Question
from router.ladder import Split
from router.opinion import SecondOpinion
from router.outcomes import Outcome
from router.report import Report, report
from router.strategies import STRATEGIES
from router.strategies.evidence_first import EvidenceFirst
from tests.router.world import LARGE, MIDDLE, SMALL, ids, knowledge, looks, model, outcome

TWO = knowledge(Bar(0.95, margin=0.1), models=(SMALL, LARGE))
THREE = knowledge(Bar(0.95, margin=0.1))
TEST = ids(Split.TEST, 20)


@dataclass(frozen=True, slots=True)
class ByTemplate:
    """Chooses the model that the table names for the template."""

    chosen: Mapping[str, str]

    def decide(self, question: Question, knowledge: Knowledge) -> Decision:
        assert question.template is not None
        name = self.chosen[question.template]
        basis = Basis.SAFE if name == knowledge.safe.name else Basis.EVIDENCE
        return Decision((name,), basis, "as the table says", question.template)


BY_TEMPLATE = ByTemplate({"easy": "small", "hard": "large", "odd": "middle"})


def _answers(prompt_id: str, small: bool, large: bool, *, task: str = "sums", template: str = "easy") -> list[Outcome]:
    """90 tokens in and 10 out: 0.0001 USD and 1 s on small, 0.001 USD and 5 s on large."""
    return [
        outcome(prompt_id, of, correct, task=task, template=template)
        for of, correct in ((SMALL, small), (LARGE, large))
    ]


def _report(rows: list[Outcome], among: Knowledge = TWO) -> Report:
    return report(rows, dict.fromkeys((o.prompt_id for o in rows), looks(0.0)), BY_TEMPLATE, among)


ROWS = [
    *_answers(TEST[0], True, True),
    *_answers(TEST[1], True, False),
    *_answers(TEST[2], False, True),
    *_answers(TEST[3], False, True, task="words", template="hard"),
]


def test_the_ends_the_coin_and_auto_are_compared_on_the_same_prompts() -> None:
    small, large, coin, auto = _report(ROWS).rows

    assert [row.name for row in (small, large, coin, auto)] == [
        "always small",
        "always large",
        "random at the cost of auto",
        "auto",
    ]
    assert {row.prompts for row in (small, large, coin, auto)} == {4}
    assert (small.accuracy, large.accuracy, auto.accuracy) == (0.5, 0.75, 0.75)
    assert (small.large_share, large.large_share, auto.large_share) == (0.0, 1.0, 0.25)
    assert (small.cost_usd, large.cost_usd) == (Decimal("0.0001"), Decimal("0.001"))
    assert auto.cost_usd == Decimal("0.000325")  # (3 * 0.0001 + 0.001) / 4
    assert (small.seconds, large.seconds, auto.seconds) == (1.0, 5.0, 2.0)


def test_the_interval_is_two_sided_and_exact() -> None:
    small, large, coin, auto = _report(ROWS).rows

    assert small.interval == pytest.approx((0.0676, 0.9324), abs=5e-5)  # 2 of 4
    assert large.interval == auto.interval == pytest.approx((0.1941, 0.9937), abs=5e-5)  # 3 of 4
    assert coin.interval is None


def test_the_coin_costs_what_auto_costs() -> None:
    coin = _report(ROWS).rows[2]

    assert coin.cost_usd == Decimal("0.000325")
    assert coin.large_share == pytest.approx(0.25)
    assert coin.accuracy == pytest.approx(0.5 + 0.25 * 0.25)
    assert coin.seconds == pytest.approx(1 + 0.25 * 4)


def test_each_task_has_its_own_row() -> None:
    sums, words = _report(ROWS).tasks

    assert (sums.task, sums.prompts) == ("sums", 3)
    assert (sums.small_accuracy, sums.large_accuracy, sums.auto_accuracy) == (2 / 3, 2 / 3, 2 / 3)
    assert (sums.large_share, sums.bases) == (0.0, {Basis.EVIDENCE: 3})
    assert (words.task, words.prompts) == ("words", 1)
    assert (words.small_accuracy, words.large_accuracy, words.auto_accuracy) == (0.0, 1.0, 1.0)
    assert (words.large_share, words.bases) == (1.0, {Basis.SAFE: 1})


def test_a_middle_tier_is_neither_small_nor_large() -> None:
    rows = [*ROWS, *_answers(TEST[4], False, False, template="odd")]
    rows += [outcome(p, MIDDLE, True, template="odd") for p in TEST[:5]]
    made = _report(rows, THREE)
    auto = made.rows[-1]

    assert auto.prompts == 5
    assert auto.accuracy == 4 / 5
    assert auto.large_share == 1 / 5
    assert auto.cost_usd == Decimal("0.00034")  # (3 * 0.0001 + 0.0004 + 0.001) / 5


def test_only_test_prompts_are_looked_at() -> None:
    others = [_answers(p, True, False) for split in (Split.FIT, Split.CALIBRATE) for p in ids(split, 10)]

    assert _report(ROWS + [o for pair in others for o in pair]) == _report(ROWS)


def test_only_prompts_that_every_model_has_answered_are_looked_at() -> None:
    half = [outcome(TEST[5], SMALL, True), outcome(TEST[6], LARGE, False)]
    unknown_build = [replace(o, build="old weights") for o in _answers(TEST[7], True, True)]

    assert _report(ROWS + half + unknown_build) == _report(ROWS)


def test_the_order_of_the_outcomes_does_not_matter() -> None:
    assert _report(ROWS[::-1]) == _report(ROWS)


def test_without_a_test_prompt_it_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"small, large.*pointsman ladder collect"):
        _report(_answers(ids(Split.FIT, 1)[0], True, True))


@pytest.mark.parametrize("lacks", [model("large", 2, usd=None), model("large", 2, tokens_per_second=None)])
def test_a_model_without_price_or_speed_is_named(lacks: Model) -> None:
    among = replace(TWO, models=(SMALL, lacks))

    with pytest.raises(ValueError, match="large has no"):
        _report(ROWS, among)


def test_where_the_ends_cost_the_same_the_coin_calls_as_many_large_ones() -> None:
    same_price = model("large", 2)
    coin = _report(ROWS, replace(TWO, models=(SMALL, same_price))).rows[2]

    assert coin.large_share == 0.25
    assert coin.accuracy == pytest.approx(0.5 + 0.25 * 0.25)


@pytest.mark.parametrize("name", STRATEGIES)
def test_with_one_model_every_row_is_that_model(name: str) -> None:
    rows = [outcome(p, SMALL, place % 4 > 0) for place, p in enumerate(TEST)]
    made = report(rows, dict.fromkeys(TEST, looks(0.0)), STRATEGIES[name](), replace(TWO, models=(SMALL,)))

    assert {row.accuracy for row in made.rows} == {0.75}


@given(
    answers=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(["easy", "hard"]), st.integers(1, 500)),
        min_size=1,
        max_size=len(TEST),
    )
)
def test_the_coin_lies_on_the_line_between_the_ends(answers: list[tuple[bool, bool, str, int]]) -> None:
    rows = [
        replace(o, completion_tokens=tokens)
        for prompt_id, (small, large, template, tokens) in zip(TEST, answers, strict=False)
        for o in _answers(prompt_id, small, large, template=template)
    ]
    low, high, coin, auto = _report(rows).rows
    share = coin.large_share

    assert 0 <= share <= 1
    assert coin.cost_usd == auto.cost_usd
    assert float(coin.cost_usd) == pytest.approx(float(low.cost_usd) + share * float(high.cost_usd - low.cost_usd))
    assert coin.accuracy == pytest.approx(low.accuracy + share * (high.accuracy - low.accuracy))
    assert coin.seconds == pytest.approx(low.seconds + share * (high.seconds - low.seconds))


def test_a_second_opinion_is_paid_for_whether_it_agrees_or_not() -> None:
    """Both small models answer; the safe one where they say different things."""
    opinion = SecondOpinion(SMALL.build, "exact", 0.9, "was counted")
    known = replace(THREE, second_opinions={("easy", MIDDLE.build): (opinion,)})
    rows = [
        replace(outcome(p, of, right, template="easy"), said=said)
        for p, said_by_middle, right_by_middle in ((TEST[0], "a", True), (TEST[1], "b", False))
        for of, said, right in ((SMALL, "a", True), (MIDDLE, said_by_middle, right_by_middle), (LARGE, "c", True))
    ]
    made = report(rows, dict.fromkeys(TEST, looks(0.0)), EvidenceFirst(), known)
    auto = made.rows[-1]

    assert made.tasks[0].bases == {Basis.CHECK: 2}
    assert (auto.accuracy, auto.large_share) == (1.0, 0.5)
    assert auto.cost_usd == Decimal("0.0001") + Decimal("0.0004") + Decimal("0.001") / 2
