"""Routing among all models of one table by recorded dollars: the points that RouterBench's AIQ is computed from.

Hu et al., "RouterBench", arXiv 2403.12031, section 3: for each willingness to pay w a prompt goes to the model with the
highest w * quality - cost, both predicted. The comparison is with mixing single models at random (their "zero router").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from router.evaluation.methods.columns import Places
from router.evaluation.methods.neighbours import mean_of_nearest
from router.evaluation.methods.ridge import fit_ridge
from router.evaluation.methods.template import shrunk_means
from router.evaluation.methods.text_columns import text_columns
from router.evaluation.metrics import aiq, interval, resampled_counts
from router.evaluation.samples import Rows, Texts, texts
from router.evaluation.splits import folds_of
from router.evaluation.tables import Floats, OutcomeTable
from router.evaluation.views import Views

WILLINGNESS = np.logspace(-3, 4, 50)  # quality points, in units of the dearest model's mean cost
NEIGHBOURS = 40  # RouterBench's kNN router uses 40
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Aiq:
    set: str
    method: str
    models: int
    aiq: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """P prompts that each of M models answered at a recorded price."""

    ids: Texts
    templates: Texts
    views: Views
    scores: Floats  # (P, M)
    costs: Floats  # (P, M), USD

    def take(self, rows: Rows) -> "Priced":
        return Priced(self.ids[rows], self.templates[rows], self.views.take(rows), self.scores[rows], self.costs[rows])


Predict = Callable[[Priced, Priced], Floats]  # fitted prompts, judged prompts -> (P, M) expected scores


def priced(table: OutcomeTable, views: Views) -> Priced | None:
    """None where fewer than three models have recorded costs."""
    models = np.flatnonzero(np.isfinite(table.cost_usd).any(axis=0))
    if len(models) < 3:
        return None
    scores, costs = table.scores[:, models], table.cost_usd[:, models]
    rows = np.flatnonzero(np.isfinite(scores).all(axis=1) & np.isfinite(costs).all(axis=1))
    if not len(rows):
        return None
    return Priced(
        texts(table.prompt_ids)[rows], texts(table.templates)[rows], views.take(rows), scores[rows], costs[rows]
    )


def aiq_of(name: str, fit: Priced, judged: Priced | None, folds: int, rng: np.random.Generator) -> list[Aiq]:
    """Of each method on *judged*, or by cross-validation on *fit* where that is None."""
    sample = fit if judged is None else judged
    costs = _predicted(_mean_by_template_of_cost, fit, judged, folds)
    counts = resampled_counts(len(sample.ids), rng, RESAMPLES)
    found = []
    for method, predict in PREDICTORS.items():
        scores = _predicted(predict, fit, judged, folds)
        found.append(_aiq(name, method, sample, _routes(scores, costs), counts))
    found.append(_aiq(name, "oracle", sample, _routes(sample.scores, sample.costs), counts))
    singles = np.repeat(np.arange(sample.scores.shape[1])[:, None], len(sample.ids), axis=1)
    found.append(_aiq(name, "single-models", sample, singles, counts))
    return found


def _predicted(predict: Predict, fit: Priced, judged: Priced | None, folds: int) -> Floats:
    if judged is not None:
        return predict(fit, judged)
    found = np.empty_like(fit.scores)
    everything = np.arange(len(fit.ids))
    for rows in folds_of(fit.ids, folds):
        found[rows] = predict(fit.take(np.setdiff1d(everything, rows)), fit.take(rows))
    return found


def _routes(scores: Floats, costs: Floats) -> Rows:
    """(K, P): the model of each prompt, for each willingness to pay."""
    scale = costs.mean(axis=0).max()
    return np.stack([np.argmax(w * scores - costs / scale, axis=1) for w in WILLINGNESS])


def _aiq(name: str, method: str, sample: Priced, routes: Rows, counts: Floats) -> Aiq:
    every = np.arange(len(sample.ids))
    quality, cost = sample.scores[every, routes], sample.costs[every, routes]  # (K, P)

    def of(weights: Floats) -> float:
        by_model = (weights @ sample.costs) / weights.sum()
        total = weights.sum()
        return aiq(cost @ weights / total, quality @ weights / total, float(by_model.min()), float(by_model.max()))

    resampled = np.array([of(weights) for weights in counts])
    return Aiq(name, method, sample.scores.shape[1], of(np.ones(len(sample.ids))), interval(resampled))


def _ridge(fit: Priced, judged: Priced) -> Floats:
    columns, templates = text_columns(fit.views), Places.of(fit.templates)

    def of(sample: Priced) -> Floats:
        return np.hstack([columns.of(sample.views), templates.apply(sample.templates)])

    return fit_ridge(of(fit), fit.scores)[0].predict(of(judged))


def _mean_by_template(fit: Priced, judged: Priced) -> Floats:
    return _template_means(fit.templates, fit.scores, judged.templates)


def _mean_by_template_of_cost(fit: Priced, judged: Priced) -> Floats:
    return _template_means(fit.templates, fit.costs, judged.templates)


def _template_means(fitted: Texts, values: Floats, asked: Texts) -> Floats:
    return np.column_stack([shrunk_means(fitted, column).of(asked) for column in values.T])


def _nearest(fit: Priced, judged: Priced) -> Floats:
    size = [min(NEIGHBOURS, len(fit.ids))]
    asked, known = judged.views.embeddings, fit.views.embeddings
    return np.column_stack([mean_of_nearest(asked, known, column, size)[:, 0] for column in fit.scores.T])


PREDICTORS: Mapping[str, Predict] = {"pointsman": _ridge, "template": _mean_by_template, "knn": _nearest}
