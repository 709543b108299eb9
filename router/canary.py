"""A new text on a cheaper tier takes a share of its traffic first, and more as its answers prove themselves. Pure.

Which request is one of the share is drawn by its id, as in `router.exploring`: the outcomes are of a fair sample.
A step is judged once, when it has as many outcomes as were fixed before; so each bound holds that is asked, and the
chance that a version under its bar passes all steps is not more than that it passes one. Moving back is quicker than
moving on: it takes no full step.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from router.bar import Bar, Cause, Shown, Tally, Verdict
from router.exploring import is_drawn


class Stage(StrEnum):
    WIDENING = "widening"
    WHOLE = "whole"  # it has all the traffic that the tier may have; evidence at run time goes on watching it
    BACK = "back"  # the safe tier has it all again; nothing but a new version begins anew


@dataclass(frozen=True, slots=True)
class Step:
    """`share` of the version's requests, 0 to 1, until `outcomes` of them are known."""

    share: float
    outcomes: int


STEPS = (Step(0.05, 60), Step(0.25, 120))  # 0.95 is proved by 60 without a failure, by 120 with one


@dataclass(frozen=True, slots=True)
class Canary:
    """How far one version has come on one tier. `place`: of the step it is on. `tally`: of that step."""

    steps: tuple[Step, ...] = STEPS
    place: int = 0
    tally: Tally = field(default_factory=Tally)
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
            case Stage.BACK:
                return 0.0
        return self.steps[self.place].share

    def takes(self, number: int) -> bool:
        """Whether the request of this *number* (`router.exploring.number_of`) may go to the tier."""
        return is_drawn(number, self.share)

    def told(self, outcome: Tally, bar: Bar) -> "Canary":
        """After one more *outcome* of a request that it took."""
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
        if self.stage is Stage.BACK or learned is None or learned.verdict is not Verdict.SUSPENDED:
            return self
        cause = learned.cause or Cause.RATE_FELL
        return replace(self, stage=Stage.BACK, why=f"{cause.value}: {learned.says}")
