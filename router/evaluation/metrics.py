"""The figures a router is judged by, from arrays. Knows nothing of prompts or models.

Ong et al., "RouteLLM", arXiv 2406.18665, section 3.2: the performance gap recovered is PGR = (quality - small) /
(large - small); APGR is its mean over the share of calls to the large model, from 0 to 1 (here the exact area under the
curve over every possible threshold, where the paper takes ten); CPT(x) is the smallest share of large calls, in per
cent, with PGR >= x. A coin has 0.5 and x. For a cascade, too, the x axis counts large calls only: what its small calls
cost is in the curve of cost.

Prompts with equal scores are taken in the expectation over their order, so no order of the table favours anybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.evaluation.tables import Floats

CPT_LEVELS = (0.5, 0.8, 0.95)
RESAMPLES = 1000
CHUNK_RESAMPLES = 50  # at once: 50 x 10,000 numbers are 4 MB
CALIBRATION_BINS = 10
ROUNDING = 1e-12  # sums in another order differ by as much

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """P prompts in the order of escalation, `order` (P,), and where each group of equals begins, `starts` (G,)."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    def sums(self, values: Floats) -> Floats:
        """(R, P) or (P,) to its sums by group, (R, G) or (G,)."""
        return np.asarray(np.add.reduceat(values[..., self.order], self.starts, axis=-1), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What is reached with the first 0, 1, ... G groups escalated. Between two points a coin decides: a straight line.

    `share` of large calls, 0 to 1; `value`: quality, or cost, per prompt.
    """

    share: Floats  # (..., G + 1)
    value: Floats  # (..., G + 1)

    @property
    def area(self) -> Floats:
        """Under the curve, over the whole range of shares."""
        width = np.diff(self.share, axis=-1)
        return np.asarray((width * (self.value[..., 1:] + self.value[..., :-1]) / 2).sum(axis=-1))


def ranked(gain: Floats) -> Ranked:
    """By the expected *gain* (P,) of escalating, the highest first."""
    order = np.argsort(-gain, kind="stable")
    new = np.diff(gain[order], prepend=np.nan) != 0
    return Ranked(order, np.flatnonzero(new))


def curve(rank: Ranked, kept: Floats, escalated: Floats, weights: Counts | None = None) -> Curve:
    """*kept*, *escalated* (P,): a prompt's value in either case. *weights* (R, P): how often each prompt counts."""
    counts = np.ones((1, len(kept))) if weights is None else weights
    total = counts.sum(axis=-1, keepdims=True)
    moved = rank.sums(counts) / total
    gained = rank.sums(counts * (escalated - kept)) / total
    base = (counts * kept).sum(axis=-1, keepdims=True) / total
    zero = np.zeros_like(base)
    share = np.concatenate([zero, np.cumsum(moved, axis=-1)], axis=-1)
    value = base + np.concatenate([zero, np.cumsum(gained, axis=-1)], axis=-1)
    return Curve(share[0], value[0]) if weights is None else Curve(share, value)


def pgr(quality: Curve, small: Floats | float, large: Floats | float) -> Curve:
    """The same with the performance gap recovered as its value; NaN where the large model is not the better one."""
    gap = np.asarray(large, dtype=np.float64) - np.asarray(small, dtype=np.float64)
    gap = np.where(gap > ROUNDING, gap, np.nan)[..., None]
    return Curve(quality.share, (quality.value - np.asarray(small)[..., None]) / gap)


def first_share(reached: Curve, level: float) -> float:
    """The smallest share of large calls at which the curve's value is at least *level*; NaN when it never is."""
    if not np.isfinite(reached.value).all() or reached.value.max() < level - ROUNDING:
        return float("nan")
    place = int(np.argmax(reached.value >= level - ROUNDING))
    if place == 0:
        return float(reached.share[0])
    left, right = place - 1, place
    rise = reached.value[right] - reached.value[left]
    part = (level - reached.value[left]) / rise if rise > 0 else 1.0
    return float(reached.share[left] + min(1.0, part) * (reached.share[right] - reached.share[left]))


def best_within(quality: Curve, cost: Curve, budget: float) -> float:
    """The best quality at a mean cost of at most *budget*, which thresholds and coins between two of them may reach."""
    if not np.isfinite(cost.value).all():
        return float("nan")
    best = float("nan")
    low, high = cost.value[:-1], cost.value[1:]
    inside = np.flatnonzero(np.minimum(low, high) <= budget)
    for place in inside:
        part = _within(low[place], high[place], budget)
        for at in part:
            best = float(np.fmax(best, quality.value[place] + at * (quality.value[place + 1] - quality.value[place])))
    return best


def _within(low: float, high: float, budget: float) -> Sequence[float]:
    """The ends of that part of a straight line, 0 to 1, which is within the budget."""
    ends = [at for at, cost in ((0.0, low), (1.0, high)) if cost <= budget]
    return ends if len(ends) == 2 else [*ends, (budget - low) / (high - low)]


def cheapest_for(quality: Curve, cost: Curve, level: float) -> float:
    """The smallest mean cost at which the quality is at least *level*; NaN when it never is, or no cost is known."""
    if not np.isfinite(cost.value).all():
        return float("nan")
    cheapest = float("nan")
    for place in np.flatnonzero(np.maximum(quality.value[:-1], quality.value[1:]) >= level - ROUNDING):
        low, high = quality.value[place : place + 2]
        ends = [float(at) for at, q in ((0.0, low), (1.0, high)) if q >= level - ROUNDING]
        part = ends if len(ends) == 2 else [*ends, float((level - low) / (high - low))]
        for at in part:
            cheapest = float(np.fmin(cheapest, cost.value[place] + at * (cost.value[place + 1] - cost.value[place])))
    return cheapest


@dataclass(frozen=True, slots=True)
class Figures:
    """APGR (mostly 0 to 1), and CPT50, CPT80, CPT95 in per cent of large calls; NaN when undefined."""

    apgr: float
    cpt: tuple[float, float, float]


def figures(gain: Floats, small: Floats, large: Floats) -> Figures:
    """Of ranking by *gain* (P,), where a kept prompt scores *small* and an escalated one *large* (P,)."""
    reached = pgr(curve(ranked(gain), small, large), small.mean(), large.mean())
    fifty, eighty, ninety_five = (100 * first_share(reached, level) for level in CPT_LEVELS)
    return Figures(float(reached.area), (fifty, eighty, ninety_five))


def resampled_counts(prompts: int, rng: np.random.Generator, resamples: int) -> Counts:
    """(R, P): how often each prompt is drawn by the bootstrap. The same for every method, which pairs them."""
    return rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples).astype(np.float64)


def resampled_apgr(gain: Floats, small: Floats, large: Floats, counts: Counts) -> Floats:
    """(R,): the APGR of each resample."""
    rank = ranked(gain)
    found = []
    for start in range(0, len(counts), CHUNK_RESAMPLES):
        chunk = counts[start : start + CHUNK_RESAMPLES]
        total = chunk.sum(axis=-1)
        reached = pgr(curve(rank, small, large, chunk), (chunk @ small) / total, (chunk @ large) / total)
        found.append(reached.area)
    return np.concatenate(found)


def interval(resampled: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Percentiles of the bootstrap; NaN when no resample has a value."""
    there = resampled[np.isfinite(resampled)]
    if not len(there):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    return float(np.quantile(there, tail)), float(np.quantile(there, 1 - tail))


def aiq(cost: Floats, quality: Floats, cheapest: float, dearest: float) -> float:
    """Average improvement in quality: Hu et al., "RouterBench", arXiv 2403.12031, section 3: the mean height over
    [*cheapest*, *dearest*] of the non-decreasing convex hull of a router's points (K,), taken as flat beyond its ends.

    Before its cheapest point a router has no quality at all: there it counts 0.
    """
    order = np.lexsort((-quality, cost))
    hull: list[tuple[float, float]] = []
    for point in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _under(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    costs, qualities = np.array(hull).T
    grid = np.unique(np.clip(np.concatenate([costs, [cheapest, dearest]]), cheapest, dearest))
    height = np.interp(grid, costs, qualities)
    start = max(cheapest, float(costs[0]))
    kept = grid >= start
    area = float((np.diff(grid[kept]) * (height[kept][1:] + height[kept][:-1]) / 2).sum())
    return area / (dearest - cheapest)


def _under(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether *middle* is on or under the line from *left* to *right*."""
    rise = (right[1] - left[1]) * (middle[0] - left[0])
    return (middle[1] - left[1]) * (right[0] - left[0]) <= rise


@dataclass(frozen=True, slots=True)
class Bin:
    """Of the prompts with a chance between `low` and `high`: how many, the mean chance, and how often it came true."""

    low: float
    high: float
    prompts: int
    predicted: float
    observed: float


def reliability(chances: Floats, came_true: Floats) -> list[Bin]:
    """Ten bins of equal width over 0 to 1; those without a prompt are left out."""
    places = np.clip((chances * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        low, high = place / CALIBRATION_BINS, (place + 1) / CALIBRATION_BINS
        bins.append(Bin(low, high, int(inside.sum()), float(chances[inside].mean()), float(came_true[inside].mean())))
    return bins


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance of chance and truth: Guo et al., arXiv 1706.04599, equation 5."""
    return sum(b.prompts * abs(b.predicted - b.observed) for b in bins) / sum(b.prompts for b in bins)
