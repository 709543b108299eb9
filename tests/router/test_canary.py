"""A canary widens by proof alone, and goes back by itself."""

from hypothesis import given
from hypothesis import strategies as st

from router.bar import Bar, Cause, Shown, Tally, Verdict
from router.canary import STEPS, Canary, Stage, Step, canary_of, document_of, steps_for
from router.exploring import CHANCES
from router.record import Observed
from router.sources import RULES, Source, rules_with

BAR = Bar(0.95, pass_rate=0.9)
PASS, FAIL = Tally(passed=1, total=1), Tally(total=1)
MARGIN = Bar(0.95, margin=0.1)
FEW = (Step(0.1, 40), Step(0.5, 60))


def after(outcomes: list[bool], steps: tuple[Step, ...] = FEW) -> Canary:
    canary = Canary(steps)
    for passed in outcomes:
        canary = canary.told(PASS if passed else FAIL, BAR)
    return canary


def test_it_widens_step_by_step_and_then_takes_all() -> None:
    assert after([]).share == 0.1
    assert after([True] * 39).share == 0.1
    assert after([True] * 40).share == 0.5
    assert after([True] * 100).stage is Stage.WHOLE
    assert after([True] * 100).takes(CHANCES - 1)


def test_the_built_in_steps_can_prove_a_bar_of_nine_tenths() -> None:
    assert after([True] * sum(step.outcomes for step in STEPS), STEPS).stage is Stage.WHOLE


def test_a_step_that_ends_without_proof_goes_back() -> None:
    canary = after([True] * 38 + [False, False])
    assert (canary.stage, canary.share) == (Stage.BACK, 0.0)
    assert "not proved" in canary.why
    assert not canary.takes(0)


def test_it_goes_back_before_the_step_ends_where_it_is_clear() -> None:
    assert after([False] * 5).stage is Stage.BACK


def test_an_alarm_of_run_time_evidence_ends_it_at_any_stage() -> None:
    alarm = Shown(Verdict.SUSPENDED, 0.5, 0.8, "passed 50/80", Cause.RATE_FELL)
    for outcomes in ([], [True] * 40, [True] * 100):
        gone = after(outcomes).watched(alarm)
        assert (gone.stage, "pass_rate_fell" in gone.why) == (Stage.BACK, True)
    open_yet = Shown(Verdict.UNKNOWN, 0.5, 0.99, "passed 5/5")
    assert after([True]).watched(open_yet) == after([True])


@given(st.lists(st.booleans(), max_size=150))
def test_no_share_grows_without_a_step_that_holds_the_bar(outcomes: list[bool]) -> None:
    canary = Canary(FEW)
    for passed in outcomes:
        later = canary.told(PASS if passed else FAIL, BAR)
        if later.share > canary.share:
            seen = canary.tally + (PASS if passed else FAIL)
            assert seen.total == FEW[canary.place].outcomes
            assert BAR.judge(seen).verdict is Verdict.HOLDS
        if canary.stage is Stage.BACK:
            assert later == canary
        canary = later


@given(st.integers(0, CHANCES - 1))
def test_a_request_that_is_in_a_small_share_is_in_a_larger_one(number: int) -> None:
    first, second = Canary(FEW), Canary(FEW, place=1)
    assert second.takes(number) or not first.takes(number)


# Outcomes by their sources.


def observed(source: Source, passed: bool, was: bool | None = None) -> Observed:
    return Observed(source, passed, 1.0, 2.0, True if source is Source.SHADOW else None, was)


@given(st.sampled_from([BAR, MARGIN]), st.sampled_from([Source.FEEDBACK, Source.ASSERTION]))
def test_what_may_not_raise_trust_widens_nothing_and_may_end_it(bar: Bar, source: Source) -> None:
    canary = Canary(FEW)
    for _ in range(500):
        canary = canary.observed(observed(source, passed=True), bar, RULES)
    assert (canary.stage, canary.place, canary.tally) == (Stage.WIDENING, 0, Tally())
    fallen = Canary(FEW)
    for _ in range(10):
        fallen = fallen.observed(observed(source, passed=False), bar, RULES)
    assert fallen.stage is Stage.BACK
    assert fallen.why.startswith(f"{source.value}: passed 0/")


def test_feedback_that_the_owner_lets_raise_trust_is_counted_like_any_other() -> None:
    canary = Canary(FEW)
    for _ in range(40):
        canary = canary.observed(observed(Source.FEEDBACK, passed=True), BAR, rules_with({"feedback"}))
    assert canary.place == 1


def test_feedback_proves_no_margin_whoever_lets_it() -> None:
    """There is no answer of the safe tier beside it."""
    canary = Canary(FEW).observed(observed(Source.FEEDBACK, passed=True), MARGIN, rules_with({"feedback"}))
    assert canary.tally == Tally()


def test_another_word_on_the_same_answer_takes_the_place_of_the_first() -> None:
    canary = Canary(FEW)
    for was, passed in ((None, True), (True, False), (False, False), (False, True)):
        canary = canary.observed(observed(Source.FEEDBACK, passed, was), BAR, RULES)
    assert canary.doubts == {Source.FEEDBACK: Tally(passed=1, total=1, paired=1)}
    unknown = Canary(FEW).observed(observed(Source.FEEDBACK, passed=False, was=True), BAR, RULES)
    assert unknown.doubts == {Source.FEEDBACK: Tally()}


def test_one_that_is_stopped_counts_nothing_and_goes_on_where_it_was() -> None:
    canary = after([True] * 45)
    stopped = canary.stopped("by somebody")
    assert (stopped.share, stopped.told(FAIL, BAR)) == (0.0, stopped)
    assert (stopped.resumed().share, stopped.resumed().tally) == (0.5, canary.tally)
    gone = after([False] * 5)
    assert gone.stopped("x") == gone.resumed() == gone


@given(st.lists(st.tuples(st.sampled_from(sorted(Source)), st.booleans()), max_size=60))
def test_what_was_written_is_read_as_it_was(told: list[tuple[Source, bool]]) -> None:
    canary = Canary(FEW)
    for source, passed in told:
        canary = canary.observed(observed(source, passed), BAR, RULES)
    assert canary_of(document_of(canary)) == canary


@given(st.sampled_from([0.5, 0.9, 0.95, 0.97, 0.99]), st.booleans())
def test_each_step_is_as_long_as_the_bar_asks_for(level: float, is_margin: bool) -> None:
    bar = Bar(0.95, margin=1 - level) if is_margin else Bar(0.95, pass_rate=level)
    for step in steps_for(bar):
        n = step.outcomes
        assert bar.judge(Tally(passed=n, total=n, paired=n)).verdict is Verdict.HOLDS
