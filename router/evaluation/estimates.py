"""Estimates for prompts that nothing was fitted on: fitted on one sample for another, or by cross-validation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.evaluation.estimator import Estimate, Estimator, Fitted
from router.evaluation.samples import Prompts, Rows, Sample, Texts
from router.evaluation.splits import folds_of
from router.evaluation.tables import Floats
from router.evaluation.views import Embeds, FreshViews

TIMED_PROMPTS = 200
WARMING_PROMPTS = 20


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """Of one decision with everything that it looks at computed anew, on one thread."""

    median: float
    p99: float


def fitted_elsewhere(estimator: Estimator, fit: Sample, judged: Sample) -> tuple[Estimate, Fitted]:
    fitted = estimator.fit(fit.prompts, fit.outcomes)
    return _checked(estimator, fitted.estimate(judged.prompts)), fitted


def cross_validated(estimator: Estimator, sample: Sample, folds: int) -> tuple[Estimate, Fitted]:
    """Every prompt is estimated by a model that was fitted without its fold. The second is one of these models.

    Estimates of two folds come from two models: `ranked_by_fold` makes them comparable.
    """
    parts, everything = folds_of(sample.prompts.ids, folds), np.arange(len(sample))
    estimates = []
    for rows in parts:
        others = np.setdiff1d(everything, rows)
        part, fitted = fitted_elsewhere(estimator, sample.take(others), sample.take(rows))
        estimates.append(part)
    back = np.argsort(np.concatenate(parts))
    return _joined(estimates, back), fitted


def ranked_by_fold(gain: Floats, prompt_ids: Texts, folds: int) -> Floats:
    """(P,): where a prompt stands among those of its fold, 0 to 1, equals in the middle of their places.

    A model fitted without a fold that is harder than the rest expects less of everything in it: compared across folds,
    even a constant would rank prompts, and the wrong way round.
    """
    found = np.empty(len(gain))
    for rows in folds_of(prompt_ids, folds):
        _, places, sizes = np.unique(gain[rows], return_inverse=True, return_counts=True)
        found[rows] = (np.cumsum(sizes) - sizes / 2)[places] / len(rows)
    return found


def time_decisions(fitted: Fitted, prompts: Prompts, embedder: Embeds) -> Milliseconds:
    """One prompt at a time, spread over *prompts*."""
    rows = np.unique(np.linspace(0, len(prompts) - 1, TIMED_PROMPTS).astype(np.intp))
    spent = []
    for row in [*rows[:WARMING_PROMPTS], *rows]:
        one = prompts.take(np.array([row]))
        fresh = replace(one, views=FreshViews(one.texts, embedder))
        begin = time.perf_counter()
        fitted.estimate(fresh)
        spent.append(time.perf_counter() - begin)
    milliseconds = 1000 * np.array(spent[WARMING_PROMPTS:])
    return Milliseconds(float(np.median(milliseconds)), float(np.quantile(milliseconds, 0.99)))


def _checked(estimator: Estimator, estimate: Estimate) -> Estimate:
    assert np.isfinite(estimate.gain).all(), f"{estimator.name} estimates what is not a number"
    return estimate


def _joined(parts: Sequence[Estimate], back: Rows) -> Estimate:
    chances = [part.chances for part in parts if part.chances is not None]
    helpers = [part.helpers for part in parts if part.helpers is not None]
    return Estimate(
        gain=np.concatenate([part.gain for part in parts])[back],
        chances=np.concatenate(chances)[back] if chances else None,
        helpers=np.concatenate(helpers)[back] if helpers else None,
    )
