"""How often a threshold chosen on some prompts keeps its promise on others: 95 % of the large model's quality.

Each of many splits divides the prompts at random. On the calibration part the smallest share of large calls is looked
for at which a bound still holds the promise; the evaluation part says whether it was kept, and what share of large
calls it took.

The bound. With L a Clopper-Pearson lower bound of the large model's quality, the promise holds if P(won) - P(lost) >=
-(1 - target) L, where a prompt is lost when it is kept and only the large model is right, and won when only the small
one is. The test of that is the one of `router.bounds.difference_lower_bound` (Berger and Boos), here with the exact
distribution of wins minus losses by a discrete Fourier transform, which is fast enough for thousands of bounds on
thousands of prompts. A tenth of the error goes to L.

Many looks cost nothing: thresholds are tried from "all to the large model" on, and the first that fails ends the search
(fixed-sequence testing: Angelopoulos et al., "Learn then Test", arXiv 2110.01052, section 3).
"""

from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from router.bounds import lower_bound, upper_bound
from router.evaluation.estimator import Estimator
from router.evaluation.samples import Outcomes, Rows, Stage
from router.evaluation.tables import Floats

SPLITS = 250
TARGET = 0.95  # of the large model's quality
CONFIDENCE = 0.95
STEPS = 100  # thresholds tried: all to the large model, 99 % of the calibration prompts, 98 %, ...
QUALITY_SHARE = 0.1  # of the allowed error goes to the bound on the large model's quality
NUISANCE_SHARE = 0.1  # of the rest, to the bound on the chance to lose a prompt, as in `router.bounds`
NUISANCE_POINTS = 16
WINDOW_DEVIATIONS = 24  # of wins minus losses that the transform covers: what is beyond is under 1e-30


class Promise(StrEnum):
    """TUNED: none; the smallest share that was enough on the calibration prompts. MEAN: for the mean of all prompts
    like these, with 95 % confidence. NEXT: for the mean of the evaluation prompts themselves, whose own noise adds to
    that of the calibration prompts: the confidence is raised so that the normal quantile grows by sqrt(1 + calibration
    / evaluation).

    Where prompts held back are judged, the fitted ones calibrate too, by estimates of models that were fitted without
    them. These come from other models than those of the judged prompts, so the two are only nearly exchangeable, and
    the bound only nearly exact: a method with few distinct scores, such as a template's mean, shows it.
    """

    TUNED = "tuned"
    MEAN = "mean"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Hits:
    """`hit_rate` of `splits` kept the promise, with a 95 % interval as if they were independent, which they are not:
    they share prompts. `large_share` of calls, mean over splits; `random_share` is what a coin needs.
    """

    set: str
    stage: Stage
    method: str
    promise: Promise
    target: float
    confidence: float
    splits: int
    hit_rate: float
    interval: tuple[float, float]
    large_share: float
    random_share: float
    quality_ratio: float


def hit_rate(
    set_name: str,
    estimator: Estimator,
    gain: Floats,
    outcomes: Outcomes,
    judged: Rows,
    promise: Promise,
    rng: np.random.Generator,
    splits: int = SPLITS,
) -> Hits:
    """*gain* (P,) of all prompts; half of the *judged* ones evaluates, all else calibrates. Scores must be 0 or 1."""
    everything = np.arange(len(gain))
    kept, shares, ratios = 0, [], []
    for _ in range(splits):
        rank = _without_ties(gain, rng)
        evaluation = rng.permutation(judged)[: len(judged) // 2]
        calibration = np.setdiff1d(everything, evaluation)
        confidence = _confidence(promise, len(calibration), len(evaluation))
        threshold = choose(rank[calibration], outcomes.take(calibration), confidence)
        escalated = rank[evaluation] >= threshold
        small, large = outcomes.small[evaluation], outcomes.large[evaluation]
        ratio = float(np.where(escalated, large, small).mean() / large.mean())
        kept += ratio >= TARGET
        shares.append(float(escalated.mean()))
        ratios.append(ratio)
    small_quality, large_quality = float(outcomes.small[judged].mean()), float(outcomes.large[judged].mean())
    return Hits(
        set=set_name,
        stage=estimator.stage,
        method=estimator.name,
        promise=promise,
        target=TARGET,
        confidence=CONFIDENCE,
        splits=splits,
        hit_rate=kept / splits,
        interval=(lower_bound(kept, splits, 0.975), upper_bound(kept, splits, 0.975)),
        large_share=float(np.mean(shares)),
        random_share=max(0.0, (TARGET * large_quality - small_quality) / (large_quality - small_quality)),
        quality_ratio=float(np.mean(ratios)),
    )


def choose(gain: Floats, outcomes: Outcomes, confidence: float | None) -> float:
    """The highest threshold on *gain* (N,), above or at which a prompt is escalated, that holds; -inf when none does.

    Without *confidence*, the highest at which the calibration prompts reach the target.
    """
    order = np.argsort(-gain, kind="stable")
    differs = (outcomes.small - outcomes.large)[order]
    lost, won = _after(differs < 0), _after(differs > 0)  # (N + 1,), of the prompts after the first n
    large = int(outcomes.large.sum())
    best = -np.inf
    for step in range(STEPS, -1, -1):
        first = len(gain) * step // STEPS
        threshold = gain[order[first - 1]] if first else np.inf
        escalated = int(np.searchsorted(-gain[order], -threshold, side="right"))  # all that tie are
        if not _holds(int(lost[escalated]), int(won[escalated]), len(gain), large, confidence):
            break
        best = float(threshold)
    return best


def _without_ties(gain: Floats, rng: np.random.Generator) -> Floats:
    """(P,): the place of each by its gain, equals in random order: a coin decides between two thresholds."""
    rank = np.empty(len(gain))
    rank[np.lexsort((rng.random(len(gain)), gain))] = np.arange(len(gain))
    return rank


def _after(marked: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    return np.concatenate([np.cumsum(marked[::-1])[::-1], [0]]).astype(np.float64)


def _confidence(promise: Promise, calibration: int, evaluation: int) -> float | None:
    if promise is Promise.TUNED:
        return None
    if promise is Promise.MEAN:
        return CONFIDENCE
    normal = NormalDist()
    return normal.cdf(normal.inv_cdf(CONFIDENCE) * (1 + calibration / evaluation) ** 0.5)


def _holds(lost: int, won: int, pairs: int, large: int, confidence: float | None) -> bool:
    if confidence is None:
        return large - lost + won >= TARGET * large
    error = 1 - confidence
    quality = lower_bound(large, pairs, 1 - QUALITY_SHARE * error)
    return difference_exceeds(lost, won, pairs, -(1 - TARGET) * quality, 1 - (1 - QUALITY_SHARE) * error)


def difference_exceeds(lost: int, won: int, pairs: int, difference: float, confidence: float) -> bool:
    """Whether `router.bounds.difference_lower_bound` of these counts is at least *difference*, computed another way."""
    error = 1 - confidence
    most = upper_bound(lost, pairs, 1 - NUISANCE_SHARE * error)
    first, last = max(0.0, -difference), min(most, (1 - difference) / 2)
    if first > last:
        return True
    losses = np.linspace(first, last, NUISANCE_POINTS)
    worst = float(net_at_least(won - lost, pairs, losses + difference, losses).max())
    return NUISANCE_SHARE * error + worst <= error


def net_at_least(net: int, pairs: int, won: Floats, lost: Floats) -> Floats:
    """(K,): P(wins - losses >= *net*) of *pairs*, each won or lost with these chances (K,): exact up to rounding."""
    deviation = float(np.sqrt(pairs * (won + lost).max()))
    everything = 4 * pairs + 2  # about any centre between -pairs and pairs
    points = 1 << int(np.ceil(np.log2(min(everything, WINDOW_DEVIATIONS * deviation + 64))))
    angle = 2 * np.pi * np.arange(points) / points
    turned = np.exp(1j * angle)
    per_pair = 1 - won[:, None] * (1 - turned) - lost[:, None] * (1 - turned.conj())
    chances = np.fft.fft(per_pair**pairs, axis=1).real / points  # of a net count, modulo `points`
    found = np.empty(len(won))
    for place, centre in enumerate(np.rint(pairs * (won - lost)).astype(int)):
        counts = centre - points // 2 + np.arange(points)
        found[place] = chances[place, counts[counts >= net] % points].sum()
    return np.clip(found, 0.0, 1.0)
