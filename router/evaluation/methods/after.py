"""Pointsman after the small model's answer and that of a second small model: ridge on what the two answers show.

Two models are fitted. `known` knows the templates and reads much off the answers; `fresh`, for a template it has never
seen, looks at little, as what an answer's looks mean does not carry over from one task to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.methods.agreement import Helpers, agree, choose_helpers
from router.evaluation.methods.answer_looks import answer_looks
from router.evaluation.methods.chances import Platt, fit_platt
from router.evaluation.methods.columns import Places, Scale
from router.evaluation.methods.ridge import Ridge, fit_ridge
from router.evaluation.methods.text_columns import TextColumns, text_columns
from router.evaluation.samples import Answers, Outcomes, Prompts, Stage, Texts, texts
from router.evaluation.tables import Floats

# How much each block of columns may say, beside agreement: chosen by cross-validation on mmlu-pro, mix4 and mix3.
TEMPLATE, LENGTHS, LOOKS, TEXT = 0.3, 0.5, 0.6, 0.2
KNOT_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of answer lengths, where the line may bend


@dataclass(frozen=True, slots=True)
class PointsmanAfter:
    name: str = "pointsman"
    stage: Stage = Stage.AFTER

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedAfter":
        helpers = choose_helpers(prompts, outcomes.gain)
        shown = show(prompts, helpers.of(prompts))
        wanted = np.column_stack([outcomes.gain, outcomes.small, outcomes.large])
        known, fresh = known_columns(prompts, shown), FreshColumns(Scale.of(_lean(shown)))
        ridge, left_out = fit_ridge(known.of(prompts, shown), wanted)
        platts = (fit_platt(left_out[:, 1], outcomes.small), fit_platt(left_out[:, 2], outcomes.large))
        return FittedAfter(helpers, known, fresh, ridge, fit_ridge(fresh.of(shown), wanted)[0], platts)


@dataclass(frozen=True, slots=True, eq=False)
class FittedAfter:
    helpers: Helpers
    known: "KnownColumns"
    fresh: "FreshColumns"
    ridge_known: Ridge  # of gain, small, large
    ridge_fresh: Ridge
    platts: tuple[Platt, Platt]

    def estimate(self, prompts: Prompts) -> Estimate:
        called = self.helpers.of(prompts)
        shown = show(prompts, called)
        predicted = self.ridge_known.predict(self.known.of(prompts, shown))
        new = np.array([template not in self.known.templates.places for template in prompts.templates])
        if new.any():
            predicted[new] = self.ridge_fresh.predict(self.fresh.of(shown))[new]
        chances = np.column_stack([platt.chances(predicted[:, 1 + i]) for i, platt in enumerate(self.platts)])
        return Estimate(predicted[:, 0], chances=chances, helpers=called)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What the answers to P prompts show: `same` (P,) whether they agree, and the looks of either (P, L)."""

    same: Floats
    small: Floats
    second: Floats

    @property
    def lengths(self) -> Floats:
        """(P, 2): log tokens of all that either said."""
        return np.column_stack([self.small[:, -1], self.second[:, -1]])


def show(prompts: Prompts, helpers: Texts) -> Shown:
    small, second = prompts.answers[prompts.small], _second(prompts, helpers)
    return Shown(agree(prompts, helpers), answer_looks(small, prompts.texts), answer_looks(second, prompts.texts))


@dataclass(frozen=True, slots=True, eq=False)
class KnownColumns:
    """Blocks side by side, each scaled on the fitted prompts and weighed as a whole."""

    templates: Places
    tables: Places
    knots: Sequence[Floats]  # of the lengths of either answer
    looks: Scale
    bends: Scale
    text: TextColumns

    def of(self, prompts: Prompts, shown: Shown) -> Floats:
        """(P, D)."""
        templates, tables = self.templates.apply(prompts.templates), self.tables.apply(prompts.tables)
        sign = (shown.same - 0.5)[:, None]
        bends = LENGTHS * self.bends.apply(_bends(shown.lengths, self.knots))
        by_table = [bends * tables[:, [place]] for place in range(tables.shape[1])]
        looks = LOOKS * self.looks.apply(_looks(shown))
        text = TEXT * self.text.of(prompts.views)
        blocks = [TEMPLATE * templates, bends, looks]
        return np.hstack([2 * sign, *blocks, *(2 * sign * block for block in blocks), *by_table, text])


def known_columns(prompts: Prompts, shown: Shown) -> KnownColumns:
    knots = [np.unique(np.quantile(lengths, KNOT_QUANTILES)) for lengths in shown.lengths.T]
    return KnownColumns(
        templates=Places.of(prompts.templates),
        tables=Places.of(prompts.tables),
        knots=knots,
        looks=Scale.of(_looks(shown)),
        bends=Scale.of(_bends(shown.lengths, knots)),
        text=text_columns(prompts.views),
    )


@dataclass(frozen=True, slots=True, eq=False)
class FreshColumns:
    scale: Scale

    def of(self, shown: Shown) -> Floats:
        """(P, D): agreement, whether there are answers, their lengths, and products."""
        return 3 * self.scale.apply(_lean(shown))


def _lean(shown: Shown) -> Floats:
    there = np.column_stack([shown.small[:, :2], shown.second[:, :2], shown.lengths])
    products = shown.same[:, None] * np.column_stack([shown.small[:, 1], shown.lengths])
    return np.column_stack([shown.same, there, products])


def _looks(shown: Shown) -> Floats:
    return np.column_stack([shown.small, shown.second])


def _bends(lengths: Floats, knots: Sequence[Floats]) -> Floats:
    """(P, K): the lengths, and how far each is beyond each of its knots."""
    beyond = [np.maximum(0, lengths[:, [place]] - of) for place, of in enumerate(knots)]
    return np.hstack([lengths, *beyond, lengths[:, [0]] - lengths[:, [1]]])


def _second(prompts: Prompts, helpers: Texts) -> Answers:
    found = Answers(texts([None] * len(prompts)), np.full(len(prompts), np.nan))
    for name in sorted(set(helpers) - {""}):
        rows = helpers == name
        found.texts[rows] = prompts.answers[name].texts[rows]
        found.tokens[rows] = prompts.answers[name].tokens[rows]
    return found
