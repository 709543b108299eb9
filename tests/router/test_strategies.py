"""What every strategy promises, and how the default one weighs what is known."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Model
from router.bar import Bar, Shown, Tally, Verdict
from router.check import Check, Verifier
from router.decision import Basis, Decision, Knowledge, Question
from router.expected import Expected
from router.features import FEATURES
from router.looks import Looks
from router.strategies import STRATEGIES
from router.strategies.evidence_first import EvidenceFirst
from router.strategies.fixed import Cheapest, Safe
from tests.router.world import LARGE, MIDDLE, SMALL, THREE, asked, knowledge, looks, model, solves

PASS_RATE = Bar(0.95, pass_rate=0.9)
MARGIN = Bar(0.95, margin=0.1)
TEMPLATE = "template"
ASKED = asked(TEMPLATE, looks(0.0))

HOLDS = Tally(passed=100, total=100, paired=100)
FAILS = Tally(passed=10, total=100, lost=90, paired=100)
OPEN = Tally(passed=5, total=5, paired=5)
SOLVE_MODELS = {SMALL: solves(0, 3), MIDDLE: solves(1, 3), LARGE: solves(2)}
LIKE_THE_EASY, LIKE_THE_HARD = looks(2.0), looks(-2.0)  # expected differences of small: +0.12 and -0.88


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    lost, won, both, neither = (draw(st.integers(min_value=0, max_value=80)) for _ in range(4))
    total = lost + won + both + neither
    return Tally(won + both, total, lost, won, total)


@st.composite
def known(draw: st.DrawFn, bars: st.SearchStrategy[Bar]) -> Knowledge:
    """Two or three tiers; each cheaper one may have evidence on the template, a solve model and a threshold."""
    models = draw(st.sampled_from([THREE, THREE[1:]]))
    return knowledge(
        draw(bars),
        {(TEMPLATE, m): draw(tallies()) for m in models if draw(st.booleans())},
        solve_models={m: solves(draw(st.floats(-3, 3)), draw(st.floats(-1, 1))) for m in models if draw(st.booleans())},
        trusted_from={m: draw(st.floats(-1, 1)) for m in models[:-1] if draw(st.booleans())},
        models=models,
    )


bars = st.sampled_from([PASS_RATE, MARGIN, Bar(0.8, pass_rate=0.5), Bar(0.8, margin=0.3)])
odd_looks = st.builds(Looks, st.tuples(*[st.floats()] * len(FEATURES)))  # infinities and NaN too
templates = st.sampled_from([TEMPLATE, "never seen", "", None])


def _tier(name: str, among: Knowledge) -> int:
    return next(m.tier for m in among.models if m.name == name)


def _with(among: Knowledge, of: Model, more: Tally) -> Knowledge:
    counted = dict(among.evidence.tallies)
    counted[TEMPLATE, of.build] = counted.get((TEMPLATE, of.build), Tally()) + more
    return replace(among, evidence=replace(among.evidence, tallies=counted))


@pytest.mark.parametrize("name", STRATEGIES)
@given(among=known(bars), template=templates, seen=odd_looks)
def test_every_strategy_orders_served_models_and_never_below_the_first(
    name: str, among: Knowledge, template: str | None, seen: Looks
) -> None:
    decision = STRATEGIES[name]().decide(asked(template, seen), among)
    tiers = [_tier(model, among) for model in decision.order]

    assert decision.order
    assert decision.model == decision.order[0]
    assert len(set(decision.order)) == len(decision.order)
    assert min(tiers) == tiers[0]
    assert tiers == sorted(tiers)
    assert decision.order[-1] == among.safe.name
    assert decision.template == template
    assert decision.reason


@pytest.mark.parametrize("name", STRATEGIES)
@given(among=known(bars), template=templates, seen=odd_looks)
def test_every_strategy_answers_the_same_question_the_same_way(
    name: str, among: Knowledge, template: str | None, seen: Looks
) -> None:
    question = asked(template, seen)

    assert STRATEGIES[name]().decide(question, among) == STRATEGIES[name]().decide(question, among)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_chooses_the_only_model(name: str) -> None:
    decision = STRATEGIES[name]().decide(ASKED, knowledge(MARGIN, models=(SMALL,)))

    assert decision.order == (SMALL.name,)


def test_the_fixed_strategies_are_the_two_ends() -> None:
    sure = knowledge(MARGIN, {(TEMPLATE, SMALL): FAILS, (TEMPLATE, MIDDLE): HOLDS})

    assert Safe().decide(ASKED, sure).order == ("large",)
    assert Cheapest().decide(ASKED, sure).order == ("small", "middle", "large")
    assert (Safe().decide(ASKED, sure).basis, Cheapest().decide(ASKED, sure).basis) == (Basis.SAFE, Basis.PINNED)


@pytest.mark.parametrize(
    ("small", "middle", "order", "basis"),
    [
        (HOLDS, HOLDS, ("small", "middle", "large"), Basis.EVIDENCE),
        (HOLDS, FAILS, ("small", "middle", "large"), Basis.EVIDENCE),
        (HOLDS, None, ("small", "middle", "large"), Basis.EVIDENCE),
        (FAILS, HOLDS, ("middle", "large"), Basis.EVIDENCE),
        (OPEN, HOLDS, ("middle", "large"), Basis.EVIDENCE),
        (None, HOLDS, ("middle", "large"), Basis.EVIDENCE),
        (FAILS, FAILS, ("large",), Basis.EVIDENCE),
        (FAILS, OPEN, ("large",), Basis.SAFE),
        (FAILS, None, ("large",), Basis.SAFE),
        (OPEN, OPEN, ("large",), Basis.SAFE),
        (None, None, ("large",), Basis.SAFE),
    ],
)
@pytest.mark.parametrize("bar", [PASS_RATE, MARGIN])
def test_the_cheapest_model_that_holds_the_bar_serves(
    small: Tally | None, middle: Tally | None, order: tuple[str, ...], basis: Basis, bar: Bar
) -> None:
    counted = {(TEMPLATE, m): tally for m, tally in ((SMALL, small), (MIDDLE, middle)) if tally}
    decision = EvidenceFirst().decide(ASKED, knowledge(bar, counted))

    assert (decision.order, decision.basis) == (order, basis)


def test_a_proved_larger_model_serves_while_it_costs_less_and_the_safe_tier_too() -> None:
    """A long queue or a cold cache at the cheaper tier: what holds the bar for less goes first, whatever its tier."""
    among = knowledge(MARGIN, {(TEMPLATE, SMALL): HOLDS, (TEMPLATE, MIDDLE): HOLDS})

    def decided(**wait_usd: int) -> Decision:
        def expect(of: Model) -> Expected:
            return Expected(400, 100, wait_usd=Decimal(wait_usd.get(of.name, 0)))

        return EvidenceFirst().decide(replace(ASKED, expect=expect), among)

    assert decided().order == ("small", "middle", "large")
    queued = decided(small=1)
    assert (queued.order, queued.basis) == (("middle", "large"), Basis.EVIDENCE)
    assert queued.reason.startswith("middle on this template passed 100/100")
    both = decided(small=2, middle=1)
    assert (both.order, both.basis) == (("large",), Basis.COST)
    assert both.reason.startswith("large is expected to cost 0.005 USD now, middle 1.0; middle on this template")
    assert decided(small=1, middle=1, large=2).model == "small"


def test_a_checked_plan_is_weighed_with_what_this_request_costs() -> None:
    """An answer of the small model first, and in half of the cases the safe tier's too: waste that a queue turns."""
    check = Check(Verifier(0.0, (0.0,) * 4, (0.0,) * 4, (1.0,) * 4), 0.5, 0.5, "was counted")
    among = replace(knowledge(MARGIN, models=(SMALL, LARGE)), checks={(TEMPLATE, SMALL.build, False): check})

    def decided(wait_usd: Decimal) -> Basis:
        def expect(of: Model) -> Expected:
            return Expected(400, 100, wait_usd=wait_usd if of is SMALL else Decimal(0))

        return EvidenceFirst().decide(replace(ASKED, checkable=True, expect=expect), among).basis

    assert decided(Decimal(0)) is Basis.CHECK
    assert decided(Decimal("0.0019")) is Basis.CHECK  # of the 0.0025 that it saves it costs 0.0005 itself
    assert decided(Decimal("0.0021")) is Basis.SAFE


def test_nothing_is_estimated_above_the_model_that_serves() -> None:
    counted = {(TEMPLATE, SMALL): FAILS, (TEMPLATE, MIDDLE): HOLDS}
    decision = EvidenceFirst().decide(ASKED, knowledge(MARGIN, counted))

    assert [(e.model, e.verdict) for e in decision.estimates] == [("small", Verdict.FAILS), ("middle", Verdict.HOLDS)]
    assert decision.reason == decision.estimates[-1].says
    assert decision.reason.startswith("middle on this template passed 100/100")


def test_the_reason_for_the_safe_tier_names_every_cheaper_model() -> None:
    decision = EvidenceFirst().decide(ASKED, knowledge(MARGIN, {(TEMPLATE, SMALL): FAILS}))

    assert decision.reason == "; ".join(e.says for e in decision.estimates)
    assert "small on this template passed 10/100" in decision.reason
    assert "middle has no outcomes on this template" in decision.reason


@pytest.mark.parametrize("tally", [None, OPEN])
@pytest.mark.parametrize(
    ("seen", "trusted_from", "chosen"),
    [
        (LIKE_THE_EASY, 0.0, "small"),
        (LIKE_THE_HARD, 0.0, "large"),
        (LIKE_THE_HARD, -1.0, "small"),
        (LIKE_THE_EASY, 0.5, "large"),
        (LIKE_THE_EASY, None, "large"),
    ],
)
def test_where_evidence_leaves_it_open_the_looks_of_the_prompt_decide(
    tally: Tally | None, seen: Looks, trusted_from: float | None, chosen: str
) -> None:
    among = knowledge(
        MARGIN,
        {(TEMPLATE, SMALL): tally} if tally else {},
        solve_models=SOLVE_MODELS,
        trusted_from={} if trusted_from is None else {SMALL: trusted_from},
    )
    decision = EvidenceFirst().decide(asked(TEMPLATE, seen), among)

    assert decision.model == chosen
    assert decision.basis is (Basis.DIFFICULTY if chosen == "small" else Basis.SAFE)


def test_a_score_at_the_threshold_is_trusted() -> None:
    among = knowledge(MARGIN, solve_models=SOLVE_MODELS)
    score = among.difficulty.expected_difference(SMALL.build, LARGE.build, LIKE_THE_EASY, TEMPLATE)
    assert score is not None
    among = knowledge(MARGIN, solve_models=SOLVE_MODELS, trusted_from={SMALL: score})

    assert EvidenceFirst().decide(asked(TEMPLATE, LIKE_THE_EASY), among).model == "small"


@pytest.mark.parametrize("template", ["never seen", "", None])
def test_of_a_template_that_no_solve_model_was_fitted_on_looks_prove_nothing(template: str | None) -> None:
    """There they are no better than a guess, so nobody even looks."""

    def look() -> Looks:
        raise AssertionError("it was looked at")

    among = knowledge(MARGIN, solve_models=SOLVE_MODELS, trusted_from={SMALL: -1.0, MIDDLE: -1.0})

    assert EvidenceFirst().decide(Question(template, look), among).order == ("large",)


def test_looks_do_not_overrule_evidence() -> None:
    easy = asked(TEMPLATE, LIKE_THE_EASY)
    counted = {(TEMPLATE, SMALL): FAILS, (TEMPLATE, MIDDLE): FAILS}
    among = knowledge(MARGIN, counted, solve_models=SOLVE_MODELS, trusted_from={SMALL: -1.0, MIDDLE: -1.0})

    assert EvidenceFirst().decide(easy, among).order == ("large",)


def test_the_middle_tier_may_be_chosen_by_its_looks() -> None:
    among = knowledge(MARGIN, {(TEMPLATE, SMALL): FAILS}, solve_models=SOLVE_MODELS, trusted_from={MIDDLE: 0.0})
    decision = EvidenceFirst().decide(asked(TEMPLATE, LIKE_THE_EASY), among)

    assert (decision.order, decision.basis) == (("middle", "large"), Basis.DIFFICULTY)


@pytest.mark.parametrize("missing", [SMALL, LARGE])
def test_without_both_solve_models_looks_prove_nothing(missing: Model) -> None:
    solve_models = {m: s for m, s in SOLVE_MODELS.items() if m != missing}
    among = knowledge(MARGIN, solve_models=solve_models, trusted_from={SMALL: -1.0})

    assert EvidenceFirst().decide(asked(TEMPLATE, LIKE_THE_EASY), among).model == "large"


@pytest.mark.parametrize("template", ["never seen", None])
def test_an_unknown_template_goes_to_the_safe_tier(template: str | None) -> None:
    among = knowledge(MARGIN, {(TEMPLATE, SMALL): HOLDS})
    decision = EvidenceFirst().decide(asked(template, looks(0.0)), among)

    assert (decision.order, decision.basis, decision.template) == (("large",), Basis.SAFE, template)


def test_with_one_model_there_is_nothing_to_decide() -> None:
    decision = EvidenceFirst().decide(ASKED, knowledge(MARGIN, {(TEMPLATE, LARGE): FAILS}, models=(LARGE,)))

    assert (decision.order, decision.basis) == (("large",), Basis.SAFE)
    assert (decision.reason, decision.estimates) == ("there is only one model", ())


def test_of_equal_tiers_the_first_that_holds_serves_and_the_other_stands_by() -> None:
    twin = model("twin", 0)
    among = knowledge(MARGIN, {(TEMPLATE, twin): HOLDS, (TEMPLATE, SMALL): HOLDS}, models=(SMALL, twin, LARGE))

    assert EvidenceFirst().decide(ASKED, among).order == ("small", "twin", "large")


@given(among=known(bars), template=templates, seen=odd_looks)
def test_a_build_without_evidence_is_never_chosen(among: Knowledge, template: str | None, seen: Looks) -> None:
    """Neither outcomes on the template nor a proven threshold: only the safe tier may serve so."""
    chosen = EvidenceFirst().decide(asked(template, seen), among).model
    build = next(m.build for m in among.models if m.name == chosen)

    proved = among.evidence.about(template, build) is not None or build in among.thresholds
    assert proved or chosen == among.safe.name


@given(among=known(bars), template=templates)
def test_the_chosen_model_holds_the_bar_and_no_cheaper_one_does(among: Knowledge, template: str | None) -> None:
    decision = EvidenceFirst().decide(asked(template, looks(0.0)), among)
    verdicts = {e.model: e.verdict for e in decision.estimates}
    cheaper = [m.name for m in among.models[:-1] if m.name not in decision.order]

    assert decision.model == among.safe.name or verdicts[decision.model] is Verdict.HOLDS
    assert all(verdicts[name] is not Verdict.HOLDS for name in cheaper)


@given(
    among=known(st.sampled_from([PASS_RATE, Bar(0.8, pass_rate=0.5)])),
    of=st.sampled_from(THREE[:2]),
    value=st.floats(-3, 3),
)
def test_a_pass_more_never_moves_the_choice_to_a_dearer_model(among: Knowledge, of: Model, value: float) -> None:
    question = asked(TEMPLATE, looks(value))
    before = EvidenceFirst().decide(question, among).model
    after = EvidenceFirst().decide(question, _with(among, of, Tally(passed=1, total=1))).model

    assert _tier(after, among) <= _tier(before, among)


@given(
    among=known(st.sampled_from([MARGIN, Bar(0.8, margin=0.3)])), of=st.sampled_from(THREE[:2]), value=st.floats(-3, 3)
)
def test_a_loss_more_never_moves_the_choice_to_a_cheaper_model(among: Knowledge, of: Model, value: float) -> None:
    question = asked(TEMPLATE, looks(value))
    before = EvidenceFirst().decide(question, among).model
    after = EvidenceFirst().decide(question, _with(among, of, Tally(total=1, lost=1, paired=1))).model

    assert _tier(after, among) >= _tier(before, among)


@given(among=known(bars), low=st.floats(-3, 3), high=st.floats(-3, 3))
def test_a_harder_looking_prompt_never_gets_a_smaller_model(among: Knowledge, low: float, high: float) -> None:
    """Where one solve model falls with a feature and the safe tier's does not."""
    low, high = sorted((low, high))
    falling = {m.build: solves(0.5, -1.0) for m in among.models[:-1]} | {among.safe.build: solves(2.0)}
    among = replace(among, difficulty=replace(among.difficulty, models=falling))
    easier, harder = (EvidenceFirst().decide(asked(TEMPLATE, looks(value)), among).model for value in (low, high))

    assert _tier(harder, among) >= _tier(easier, among)


@pytest.mark.parametrize(
    ("verdict", "order", "basis"),
    [
        (Verdict.HOLDS, ("small", "large"), Basis.EVIDENCE),
        (Verdict.FAILS, ("large",), Basis.EVIDENCE),
        (Verdict.SUSPENDED, ("large",), Basis.SAFE),
        (Verdict.UNKNOWN, ("small", "large"), Basis.DIFFICULTY),
    ],
)
@pytest.mark.parametrize("tally", [None, HOLDS, FAILS])
def test_what_was_learned_at_run_time_has_the_last_word(
    verdict: Verdict, order: tuple[str, ...], basis: Basis, tally: Tally | None
) -> None:
    """Over the tables, and a suspended model is not served for the looks of a prompt either."""
    counted = {(TEMPLATE, SMALL): tally} if tally else {}
    among = knowledge(MARGIN, counted, solve_models=SOLVE_MODELS, trusted_from={SMALL: -1.0}, models=(SMALL, LARGE))
    learned = among.learning({(TEMPLATE, SMALL.build): Shown(verdict, -0.2, 0.2, "was learned")})
    decision = EvidenceFirst().decide(ASKED, learned)

    assert (decision.order, decision.basis) == (order, basis)
    assert "was learned" in decision.estimates[0].says
    assert EvidenceFirst().decide(ASKED, learned.learning({})) == EvidenceFirst().decide(ASKED, among)


def test_a_decision_computes_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound takes up to 50 ms and would hold up every stream: it is known before the first request."""
    proved = knowledge(MARGIN, {(TEMPLATE, SMALL): HOLDS})

    def refuse(bar: Bar, tally: Tally) -> None:
        raise AssertionError("a bound was computed while deciding")

    monkeypatch.setattr(Bar, "judge", refuse)

    assert EvidenceFirst().decide(ASKED, proved).basis is Basis.EVIDENCE
