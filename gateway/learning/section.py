"""The settings of what the router learns at run time."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from gateway.section import Section
from router.bar import Bar
from router.decision import Mode
from router.record import Terms
from router.sources import rules_with


class SimilarTo(Section):
    """Texts that are alike by their words."""

    similar: float = Field(gt=0, le=1, description="least cosine of the two answers' vectors")


Comparing = Literal["exact", "json", "number", "none"] | SimilarTo


class LearningSection(Section):
    """Per template: what is counted of live traffic, and whether it decides."""

    mode: Mode = Field(
        default=Mode.APPLY,
        description="`apply`: decide by evidence; `observe`: say what would be decided and serve the safe tier; `off`",
    )
    modes: Mapping[str, Mode] = Field(
        default_factory=dict, description="templates with a mode of their own, by their key"
    )
    feedback: Mapping[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: {"correct": 0.5, "score": 0.5},
        description="names of feedback that are outcomes, each with the value (0 to 1) from which on it is a pass",
    )
    raised_by: tuple[Literal["feedback", "assertion"], ...] = Field(
        default=(), description="sources that may earn trust besides suite and shadow: feedback, assertion"
    )
    generation_outcomes: int = Field(
        default=2_000, ge=100, description="evaluated outcomes after which older ones begin to be forgotten"
    )
    alarm_outcomes: int = Field(
        default=5_000, ge=100, description="a model that is just at the bar has one false alarm in so many at most"
    )
    max_records: int = Field(
        default=10_000, ge=100, description="templates times models that are remembered; the longest untouched go"
    )

    explore_usd_per_day: Decimal | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="money a day for sending requests to cheaper models as well, so that these can earn trust; 0 is "
        "never, unset is an hour of this machine for the models on it and nothing for others",
    )
    explore_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of the safe tier's requests that are drawn for it, 0 to 1, while there is money",
    )
    compare: Mapping[str, Comparing] = Field(
        default_factory=dict,
        description="templates, by their key, with how two answers are compared: exact, json, number, "
        "{similar: 0.9}, none",
    )

    def terms(self, bar: Bar) -> Terms:
        return Terms(bar, rules_with(self.raised_by), self.generation_outcomes, self.alarm_outcomes)
