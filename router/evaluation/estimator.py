"""What a router under test is: fitted on prompts and their outcomes, it says of others what escalating gains.

A better learner is put in at one place: `router.evaluation.methods`.
"""

from dataclasses import dataclass
from typing import Protocol

from router.evaluation.samples import Outcomes, Prompts, Stage, Texts
from router.evaluation.tables import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Of P prompts: `gain`, by which they are ranked for escalation; what else is known is optional.

    `chances` (P, 2): that the small, that the large model is right, 0 to 1. `helpers` (P,): the second small model that
    is called before deciding, "" for none.
    """

    gain: Floats
    chances: Floats | None = None
    helpers: Texts | None = None


class Fitted(Protocol):
    def estimate(self, prompts: Prompts) -> Estimate: ...


class Estimator(Protocol):
    """`name` is the method's in the results. It must not keep state between two fits."""

    @property
    def name(self) -> str: ...

    @property
    def stage(self) -> Stage: ...

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> Fitted: ...
