"""A new text on a cheaper tier takes a share of its traffic first, and more as its answers prove themselves. Pure.

Which request is one of the share is drawn by its id, as in `router.exploring`: the outcomes are of a fair sample.
A step is judged once, when it has as many outcomes as were fixed before; so each bound holds that is asked, and the
chance that a version under its bar passes all steps is not more than that it passes one. Moving back is quicker than
moving on: it takes no full step.

What may raise trust (`router.sources`) makes a step's tally. What may only cost it is a doubt: each such source is held
against the bar by itself, as if the safe tier had always been right, and ends the canary where it is clearly under it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from router.bar import Bar, Cause, Shown, Tally, Verdict
from router.evidence import tally_of
from router.exploring import is_drawn
from router.gate import MOST_NEEDED, cases_needed
from router.record import Observed
from router.sources import Rule, Source


class Stage(StrEnum):
    WIDENING = "widening"
    WHOLE = "whole"  # all steps are proved; the label moves, and evidence at run time decides and watches
    BACK = "back"  # what was there before has it all again; nothing but a new version begins anew
    STOPPED = "stopped"  # by somebody; begun again it goes on where it was, so that nobody tries until it passes


@dataclass(frozen=True, slots=True)
class Step:
    """`share` of the version's requests, 0 to 1, until `outcomes` of them are known."""

    share: float
    outcomes: int


STEPS = (Step(0.05, 60), Step(0.25, 120))  # 0.95 is proved by 60 without a failure, by 120 with one


def steps_for(bar: Bar) -> tuple[Step, ...]:
    """STEPS, each as long as it takes to prove *bar* without a failure. Raises ValueError where no step can."""
    needed = cases_needed(bar)
    if needed == MOST_NEEDED:
        raise ValueError(f"a bar of {bar} takes {MOST_NEEDED:,} outcomes or more; a canary waits for fewer")
    return tuple(Step(step.share, max(step.outcomes, needed)) for step in STEPS)


@dataclass(frozen=True, slots=True)
class Canary:
    """How far one version has come on one tier. `place`: of the step it is on. `tally`: of that step. `doubts`: since
    it began, what each source has told that cannot prove anything.
    """

    steps: tuple[Step, ...] = STEPS
    place: int = 0
    tally: Tally = field(default_factory=Tally)
    doubts: Mapping[Source, Tally] = field(default_factory=dict)
    stage: Stage = Stage.WIDENING
    why: str = "has not served yet"

    def __post_init__(self) -> None:
        shares = [step.share for step in self.steps]
        if not shares or shares != sorted(shares) or not all(0 < share < 1 for share in shares):
            raise ValueError("the shares of a canary are between 0 and 1, and grow")
        if any(step.outcomes < 1 for step in self.steps):
            raise ValueError("a step of a canary waits for one outcome at least")

    @property
    def share(self) -> float:
        match self.stage:
            case Stage.WHOLE:
                return 1.0
            case Stage.BACK | Stage.STOPPED:
                return 0.0
        return self.steps[self.place].share

    def takes(self, number: int) -> bool:
        """Whether the request of this *number* (`router.exploring.number_of`) may go to the tier."""
        return is_drawn(number, self.share)

    def observed(self, observed: Observed, bar: Bar, rules: Mapping[Source, Rule]) -> "Canary":
        """After one more outcome of a request that it took, or another word on one that it knows (`was`)."""
        source = observed.source
        if self.stage is not Stage.WIDENING or observed.was is observed.passed:
            return self
        if rules[source].raises and (bar.pass_rate is not None or observed.safe_passed is not None):
            return self.told(_change(self.tally, observed, observed.safe_passed), bar)
        before = self.doubts.get(source, Tally())
        doubt = before + _change(before, observed, safe_passed=True)
        shown = bar.judge(doubt)
        later = replace(self, doubts={**self.doubts, source: doubt})
        if shown.verdict is not Verdict.FAILS:
            return later
        return replace(later, stage=Stage.BACK, why=f"{source.value}: {shown.says}")

    def told(self, outcome: Tally, bar: Bar) -> "Canary":
        """After one more *outcome* that may prove something."""
        if self.stage is not Stage.WIDENING:
            return self
        tally = self.tally + outcome
        shown = bar.judge(tally)
        if shown.verdict is Verdict.FAILS:
            return replace(self, tally=tally, stage=Stage.BACK, why=shown.says)
        if tally.total < self.steps[self.place].outcomes:
            return replace(self, tally=tally, why=shown.says)
        if shown.verdict is not Verdict.HOLDS:
            return replace(self, tally=tally, stage=Stage.BACK, why=f"{shown.says}; not proved at {self.share:.0%}")
        if self.place + 1 < len(self.steps):
            return replace(self, place=self.place + 1, tally=Tally(), why=shown.says)
        return replace(self, tally=tally, stage=Stage.WHOLE, why=shown.says)

    def watched(self, learned: Shown | None) -> "Canary":
        """After what run-time evidence says of the version on this tier: where trust has ended, so has the canary."""
        over = self.stage in (Stage.BACK, Stage.STOPPED)
        if over or learned is None or learned.verdict is not Verdict.SUSPENDED:
            return self
        cause = learned.cause or Cause.RATE_FELL
        return replace(self, stage=Stage.BACK, why=f"{cause.value}: {learned.says}")

    def stopped(self, why: str) -> "Canary":
        return self if self.stage is not Stage.WIDENING else replace(self, stage=Stage.STOPPED, why=why)

    def resumed(self) -> "Canary":
        return self if self.stage is not Stage.STOPPED else replace(self, stage=Stage.WIDENING)


def document_of(canary: Canary) -> dict[str, Any]:
    """As JSON takes it."""
    return {
        "steps": [[step.share, step.outcomes] for step in canary.steps],
        "place": canary.place,
        "tally": _counts(canary.tally),
        "doubts": {source.value: _counts(tally) for source, tally in canary.doubts.items()},
        "stage": canary.stage.value,
        "why": canary.why,
    }


def canary_of(document: Mapping[str, Any]) -> Canary:
    """What `document_of` wrote."""
    return Canary(
        tuple(Step(share, outcomes) for share, outcomes in document["steps"]),
        document["place"],
        Tally(*document["tally"]),
        {Source(source): Tally(*counts) for source, counts in document["doubts"].items()},
        Stage(document["stage"]),
        document["why"],
    )


def _change(before: Tally, observed: Observed, safe_passed: bool | None) -> Tally:
    """What is to be added to *before*. Nothing for another word on an outcome that an earlier step has counted."""
    now = tally_of(observed.passed, safe_passed)
    if observed.was is None:
        return now
    then = tally_of(observed.was, safe_passed)
    change = Tally(now.passed - then.passed, 0, now.lost - then.lost, now.won - then.won, 0)
    after = before + change
    counted = 0 <= after.passed <= after.total and 0 <= after.lost <= after.paired and 0 <= after.won <= after.paired
    return change if counted else Tally()


def _counts(tally: Tally) -> list[int]:
    return [tally.passed, tally.total, tally.lost, tally.won, tally.paired]
