"""One row of the results: a method on a set, in one stage, by every figure. Arithmetic only.

Cost. A prompt that is kept costs the small model's call; one escalated before any answer costs the large model's call
alone. In stage `after` every prompt has paid for the small model and, where one is called, for the second small model;
an escalated one pays the large model on top. Costs are told as a share of what always calling the large one costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.evaluation.estimates import Milliseconds
from router.evaluation.estimator import Estimate
from router.evaluation.metrics import (
    Bin,
    Counts,
    Curve,
    best_within,
    cheapest_for,
    curve,
    expected_calibration_error,
    figures,
    interval,
    ranked,
    reliability,
    resampled_apgr,
)
from router.evaluation.samples import Costs, Sample, Stage
from router.evaluation.sets import Set
from router.evaluation.tables import Floats

TARGET = 0.95  # of the large model's quality: what `cost_at_target` is the cost of

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Over:
    """How much more APGR than another method, on the same prompts and the same resamples."""

    method: str
    apgr: float
    ci95: Interval


@dataclass(frozen=True, slots=True)
class Row:
    """NaN where a figure is not defined or not known. `quality_at_half_calls`: with half of the calls to the large
    model; `quality_at_half_cost`: at a cost in the middle between always small and always large; `cost_at_target`: the
    share of always-large's cost at which 95 % of its quality is reached; `small_calls_cost`: what is spent before
    deciding, as a share of a large call.
    """

    set: str
    stage: Stage
    method: str
    prompts: int
    small: str
    large: str
    helpers: tuple[str, ...]
    apgr: float
    ci95: Interval
    cpt50: float
    cpt80: float
    cpt95: float
    over: Over | None
    quality_small: float
    quality_large: float
    quality_at_half_calls: float
    quality_at_half_cost: float
    cost_at_target: float
    small_calls_cost: float
    cost_unit: str
    ms_p50: float
    ms_p99: float
    ece_small: float
    ece_large: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the chances of one model being right can be believed."""

    set: str
    stage: Stage
    method: str
    model: str
    ece: float
    bins: Sequence[Bin]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A method's row, the APGR of each resample (R,), and its curve of quality."""

    row: Row
    resampled: Floats
    quality: Curve
    calibration: Sequence[Calibration]

    def beside(self, other: "Judged") -> Row:
        """The row with what it has over *other*, judged on the same resamples."""
        ahead = interval(self.resampled - other.resampled)
        return replace(self.row, over=Over(other.row.method, self.row.apgr - other.row.apgr, ahead))


def judge(
    one: Set,
    stage: Stage,
    method: str,
    sample: Sample,
    estimate: Estimate,
    counts: Counts,
    took: Milliseconds | None = None,
) -> Judged:
    outcomes = sample.outcomes
    reached = figures(estimate.gain, outcomes.small, outcomes.large)
    resampled = resampled_apgr(estimate.gain, outcomes.small, outcomes.large, counts)
    rank = ranked(estimate.gain)
    quality = curve(rank, outcomes.small, outcomes.large)
    kept, escalated = spent(sample.costs, estimate)
    cost = curve(rank, kept, escalated)
    always_large = float(sample.costs.large.mean())
    budget = float(sample.costs.small.mean() + always_large) / 2
    calibration = _calibrations(one.name, stage, method, sample, estimate)
    eces = [one.ece for one in calibration] or [float("nan")] * 2
    row = Row(
        set=one.name,
        stage=stage,
        method=method,
        prompts=len(sample),
        small=one.small,
        large=one.large,
        helpers=tuple(sorted(set(estimate.helpers) - {""})) if estimate.helpers is not None else (),
        apgr=reached.apgr,
        ci95=interval(resampled),
        cpt50=reached.cpt[0],
        cpt80=reached.cpt[1],
        cpt95=reached.cpt[2],
        over=None,
        quality_small=float(outcomes.small.mean()),
        quality_large=float(outcomes.large.mean()),
        quality_at_half_calls=float(np.interp(0.5, quality.share, quality.value)),
        quality_at_half_cost=best_within(quality, cost, budget),
        cost_at_target=cheapest_for(quality, cost, TARGET * float(outcomes.large.mean())) / always_large,
        small_calls_cost=float(kept.mean()) / always_large,
        cost_unit=sample.costs.unit,
        ms_p50=took.median if took else float("nan"),
        ms_p99=took.p99 if took else float("nan"),
        ece_small=eces[0],
        ece_large=eces[1],
    )
    return Judged(row, resampled, quality, calibration)


def always(one: Set, stage: Stage, sample: Sample, *, large: bool) -> Row:
    """The row of calling one model for everything: a point, without a curve."""
    nan = float("nan")
    outcomes, costs = sample.outcomes, sample.costs
    quality = float((outcomes.large if large else outcomes.small).mean())
    relative = 1.0 if large else float(costs.small.mean() / costs.large.mean())
    return Row(
        set=one.name,
        stage=stage,
        method="always-large" if large else "always-small",
        prompts=len(sample),
        small=one.small,
        large=one.large,
        helpers=(),
        apgr=nan,
        ci95=(nan, nan),
        cpt50=nan,
        cpt80=nan,
        cpt95=nan,
        over=None,
        quality_small=float(outcomes.small.mean()),
        quality_large=float(outcomes.large.mean()),
        quality_at_half_calls=nan if large else quality,
        quality_at_half_cost=nan if large else quality,
        cost_at_target=relative if quality >= TARGET * float(outcomes.large.mean()) else nan,
        small_calls_cost=relative if not large else nan,
        cost_unit=costs.unit,
        ms_p50=nan,
        ms_p99=nan,
        ece_small=nan,
        ece_large=nan,
    )


def spent(costs: Costs, estimate: Estimate) -> tuple[Floats, Floats]:
    """(P,) each: what a prompt costs when it is kept, and when it is escalated."""
    if estimate.helpers is None:
        return costs.small, costs.large
    first = costs.small.copy()
    for name in sorted(set(estimate.helpers) - {""}):
        rows = estimate.helpers == name
        first[rows] += costs.by_model[name][rows]
    return first, first + costs.large


def _calibrations(set_name: str, stage: Stage, method: str, sample: Sample, estimate: Estimate) -> list[Calibration]:
    if estimate.chances is None:
        return []
    made = []
    for place, (model, scores) in enumerate((("small", sample.outcomes.small), ("large", sample.outcomes.large))):
        bins = reliability(estimate.chances[:, place], scores)
        made.append(Calibration(set_name, stage, method, model, expected_calibration_error(bins), bins))
    return made
