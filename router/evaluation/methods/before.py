"""Pointsman before any answer: what is hard for models of either size is learned first, then where escalating pays.

Level 1 predicts, from template, text features and token pairs, how the small and the large model and other models do
on the prompt. Level 2 turns that into gain. Its squares matter: the gain is a hump in difficulty, as on the easiest and
on the hardest prompts there is none. For a template never seen, text has told nothing (EXPERIMENTS.md): every such
prompt gets the mean gain, and none is put before another.
"""

from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.methods.chances import Platt, fit_platt
from router.evaluation.methods.columns import Places, Scale
from router.evaluation.methods.grams import Grams, fit_grams
from router.evaluation.methods.ridge import Ridge, fit_ridge
from router.evaluation.samples import Outcomes, Prompts, Rows, Stage
from router.evaluation.splits import folds_of
from router.evaluation.tables import Floats

# How much template, features and token pairs may say; two strengths, of which the second sees finer things.
STRENGTHS = ((0.3, 0.2, 0.14), (0.5, 0.5, 0.5))
LEVEL1_PENALTY, LEVEL2_PENALTY, TARGET_PENALTY = (1.0,), (1000.0,), (20.0,)
MOST_DEVIATIONS = 3.5
LEAST_PROMPTS = 1000  # with fewer, level 2 has too little to learn from, and level 1 alone decides
CLEANED_SHARE = 0.7  # of the target is not what happened once but what other models' outcomes say would happen
INNER_FOLDS = 5
LARGE_SIZE_QUALITY = 0.5  # quantile of mean scores that parts the weaker other models from the stronger
COMPONENTS = 4  # of the other models' outcomes


@dataclass(frozen=True, slots=True)
class PointsmanBefore:
    name: str = "pointsman"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedBefore":
        columns = before_columns(prompts)
        blocks = columns.blocks(prompts)
        others = _others(prompts, outcomes)
        wanted = np.column_stack([outcomes.gain, outcomes.small, outcomes.large, others])
        level1, left_out = zip(*(fit_ridge(_beside(blocks, s), wanted, LEVEL1_PENALTY) for s in STRENGTHS), strict=True)
        scale = Scale.of(np.hstack(left_out))
        inputs = _level2_inputs(scale, np.hstack(left_out), blocks)
        target = _cleaned(prompts, outcomes, blocks, inputs)
        level2 = fit_ridge(inputs, target[:, None], LEVEL2_PENALTY)[0] if len(prompts) >= LEAST_PROMPTS else None
        platts = (fit_platt(left_out[0][:, 1], outcomes.small), fit_platt(left_out[0][:, 2], outcomes.large))
        return FittedBefore(columns, (level1[0], level1[1]), scale, level2, platts, float(outcomes.gain.mean()))


@dataclass(frozen=True, slots=True, eq=False)
class FittedBefore:
    columns: "BeforeColumns"
    level1: tuple[Ridge, Ridge]  # of gain, small, large, and what other models do
    scale: Scale
    level2: Ridge | None  # of gain
    platts: tuple[Platt, Platt]
    mean_gain: float

    def estimate(self, prompts: Prompts) -> Estimate:
        blocks = self.columns.blocks(prompts)
        expected = [ridge.predict(_beside(blocks, s)) for ridge, s in zip(self.level1, STRENGTHS, strict=True)]
        gain = expected[0][:, 0]
        if self.level2 is not None:
            gain = self.level2.predict(_level2_inputs(self.scale, np.hstack(expected), blocks))[:, 0]
        known = np.array([template in self.columns.templates.places for template in prompts.templates])
        chances = np.column_stack([platt.chances(expected[0][:, 1 + i]) for i, platt in enumerate(self.platts)])
        return Estimate(np.where(known, gain, self.mean_gain), chances=chances)


@dataclass(frozen=True, slots=True, eq=False)
class BeforeColumns:
    templates: Places
    features: Scale
    grams: Grams

    def blocks(self, prompts: Prompts) -> tuple[Floats, Floats, Floats]:
        """(P, D) each: template, text features, token pairs."""
        features = self.features.apply(prompts.views.features)
        return self.templates.apply(prompts.templates), features, self.grams.apply(prompts.views.grams)


def before_columns(prompts: Prompts) -> BeforeColumns:
    features = Scale.of(prompts.views.features)
    return BeforeColumns(Places.of(prompts.templates), features, fit_grams(prompts.views.grams))


def _beside(blocks: tuple[Floats, Floats, Floats], strengths: tuple[float, float, float]) -> Floats:
    return np.hstack([strength * block for strength, block in zip(strengths, blocks, strict=True)])


def _level2_inputs(scale: Scale, expected: Floats, blocks: tuple[Floats, Floats, Floats]) -> Floats:
    standard = np.clip((expected - scale.centre) * scale.factor, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return np.hstack([standard, 0.5 * standard**2, 3 * blocks[0], 2 * blocks[1]])


def _others(prompts: Prompts, outcomes: Outcomes) -> Floats:
    """(N, K): how the weaker and the stronger half of the other models did, and their leading components, table by
    table. No columns where there are under five others somewhere.
    """
    found = np.zeros((len(prompts), 2 + COMPONENTS))
    for table in sorted(set(prompts.tables)):
        rows = np.flatnonzero(prompts.tables == table)
        scores = _scores_of_others(outcomes, rows)
        if scores.shape[1] <= COMPONENTS:
            return np.zeros((len(prompts), 0))
        quality = scores.mean(axis=0)
        strong = quality > np.quantile(quality, LARGE_SIZE_QUALITY)
        left, _, right = np.linalg.svd(scores - quality, full_matrices=False)
        signs = np.sign(right[:COMPONENTS].sum(axis=1))  # so that more is easier, in every table
        found[rows, 0], found[rows, 1] = scores[:, ~strong].mean(axis=1), scores[:, strong].mean(axis=1)
        components = min(COMPONENTS, left.shape[1])
        found[rows, 2 : 2 + components] = left[:, :components] * signs[:components] * np.sqrt(len(rows))
    return found


def _scores_of_others(outcomes: Outcomes, rows: Rows) -> Floats:
    """(R, M'): models that answered nearly all of these prompts, without the pair, which is known by its scores; what
    is missing is a model's mean.
    """
    scores = outcomes.others[rows]
    answered = np.isfinite(scores).mean(axis=0) > 0.9
    pair = (outcomes.small[rows], outcomes.large[rows])
    apart = np.array([not any(np.array_equal(column, of) for of in pair) for column in scores.T], dtype=bool)
    kept = scores[:, answered & apart]
    means = np.nanmean(kept, axis=0) if kept.shape[1] else np.zeros(0)
    return np.where(np.isfinite(kept), kept, means)


def _cleaned(prompts: Prompts, outcomes: Outcomes, blocks: tuple[Floats, Floats, Floats], inputs: Floats) -> Floats:
    """(N,): the gain, of which a part is replaced by what all other models' outcomes on the very prompt make of it.

    One answer is right or wrong by luck, too; twenty others say whether it was. Predicted fold by fold, so that no
    prompt's own luck comes back.
    """
    others = _others(prompts, outcomes)
    if not others.shape[1]:
        return outcomes.gain
    weak, strong = others[:, 0], others[:, 1]
    hump = np.column_stack([weak, strong, weak**2, strong**2, weak * strong])
    scores = np.zeros((len(prompts), outcomes.others.shape[1]))
    for table in sorted(set(prompts.tables)):
        rows = np.flatnonzero(prompts.tables == table)
        of_table = _scores_of_others(outcomes, rows)
        scores[rows, : of_table.shape[1]] = of_table - of_table.mean(axis=0)
    x = np.hstack([0.3 * scores, hump, blocks[0], 2 * blocks[1], 0.1 * inputs])
    made, everything = outcomes.gain.copy(), np.arange(len(prompts))
    for rows in folds_of(prompts.ids, INNER_FOLDS):
        apart = np.setdiff1d(everything, rows)
        made[rows] = fit_ridge(x[apart], outcomes.gain[apart, None], TARGET_PENALTY)[0].predict(x[rows])[:, 0]
    return (1 - CLEANED_SHARE) * outcomes.gain + CLEANED_SHARE * made
