"""What another policy would have cost and been worth, as far as a ledger can say, and no further."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Model, Price
from models.engine import Usage
from router.bar import Bar, Tally
from router.decision import Knowledge, Question
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.expected import Expected
from router.replay import Served, by_evidence, cheapest, replay, safe
from router.strategies.evidence_first import EvidenceFirst
from router.transcript import document_of
from tests.router.world import LARGE, SMALL

BAR = Bar(0.95, margin=0.1)
PRICES = {model.name: model for model in (SMALL, LARGE)}
TOKENS = Usage(100, 10)
HOLDS_A_TENTH = Tally(190, 200, lost=10, won=2, paired=200)


def served(*, passed: bool | None = None, tally: Tally = HOLDS_A_TENTH, usage: Usage | None = TOKENS) -> Served:
    knowledge = Knowledge((SMALL, LARGE), Evidence({("t", SMALL.build): tally}), Difficulty({}), {}, BAR)
    decision = EvidenceFirst().decide(Question("t"), knowledge)
    row = PRICES[decision.model]
    cost = None if usage is None else row.expected_cost_usd(usage)
    return Served(document_of(decision), decision.model, usage, cost, passed)


def test_the_same_policy_changes_nothing() -> None:
    made = replay([served(passed=True), served(passed=False), served()], by_evidence(None, BAR), PRICES)
    assert (made.requests, made.changed, made.unjudged) == (3, 0, 0)
    assert made.cost_now_usd == made.cost_then_usd > 0
    assert (made.passed, made.judged) == (made.then_passed, made.then_judged) == (1, 2)


def test_a_stricter_bar_costs_more_and_the_ledger_does_not_know_how_good_it_is() -> None:
    rows = [served(passed=True) for _ in range(20)]
    made = replay(rows, by_evidence(Bar(0.95, margin=0.02), BAR), PRICES)
    assert made.changed == 20
    assert made.cost_now_usd == made.cost_then_usd * 10  # the large model's price
    assert made.quality is None
    low, high = made.quality_at_the_ends or (1.0, 0.0)
    assert (low, high) == (0.0, 1.0)


def test_the_ends_of_all_policies() -> None:
    rows = [served(), served(tally=Tally())]
    assert replay(rows, safe, PRICES).changed == 1
    assert replay(rows, cheapest, PRICES).changed == 1


def test_what_has_no_price_or_no_counts_is_left_out_of_both_sums() -> None:
    made = replay([served(), served(usage=None)], by_evidence(None, BAR), PRICES)
    assert made.unpriced == 1
    assert made.cost_then_usd == made.cost_now_usd == served().cost_usd
    assert replay([served()], safe, {}).unpriced == 1


def test_other_prices_move_requests_with_the_tokens_the_cache_and_the_wait_that_were_expected() -> None:
    def expect(of: Model) -> Expected:
        return Expected(1000, 10, cached_tokens=0 if of is SMALL else 900, wait_usd=Decimal("0.0001"))

    knowledge = Knowledge((SMALL, LARGE), Evidence({("t", SMALL.build): HOLDS_A_TENTH}), Difficulty({}), {}, BAR)
    decision = EvidenceFirst().decide(Question("t", expect=expect), knowledge)
    assert decision.model == SMALL.name
    then_usd = SMALL.cost_usd(Usage(1000, 10), 0.0)
    row = Served(document_of(decision), decision.model, Usage(1000, 10), then_usd, None)
    assert replay([row], by_evidence(None, BAR), PRICES).changed == 0
    cached = Price(input_usd=Decimal(5), output_usd=Decimal(10), cached_input_usd=Decimal("0.1"))
    cheap_when_warm = LARGE.model_copy(update={"price": cached})
    made = replay([row], by_evidence(None, BAR), {**PRICES, "large": cheap_when_warm})
    assert made.changed == 1
    assert made.cost_now_usd == cheap_when_warm.cost_usd(Usage(1000, 10, 900), 0.0) == Decimal("0.00069")
    assert made.cost_now_usd < made.cost_then_usd


@given(st.lists(st.tuples(st.none() | st.booleans(), st.booleans()), max_size=60))
def test_the_interval_over_all_holds_whatever_the_unknown_answers_were(told: list[tuple[bool | None, bool]]) -> None:
    rows = [served(passed=passed, tally=HOLDS_A_TENTH if proved else Tally()) for passed, proved in told]
    made = replay(rows, safe, PRICES)
    assert made.judged + made.unjudged == made.then_judged == sum(passed is not None for passed, _ in told)
    if made.quality_at_the_ends is not None:
        low, high = made.quality_at_the_ends
        total = made.judged + made.unjudged
        assert low <= made.passed / total <= (made.passed + made.unjudged) / total <= high
    assert made.cost_now_usd >= Decimal(0)
