"""A canary widens by proof alone, and goes back by itself."""

from hypothesis import given
from hypothesis import strategies as st

from router.bar import Bar, Cause, Shown, Tally, Verdict
from router.canary import STEPS, Canary, Stage, Step
from router.exploring import CHANCES

BAR = Bar(0.95, pass_rate=0.9)
PASS, FAIL = Tally(passed=1, total=1), Tally(total=1)
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
