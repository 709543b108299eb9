"""Pointsman after the small model's answer and that of a second small model: ridge on what the answers show."""

from dataclasses import dataclass

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.methods.agreement import NUMBER, Helpers, agree, answer_key, choose_helpers
from router.evaluation.methods.before import FittedBefore, fit_before
from router.evaluation.methods.chances import Platt, fit_platt
from router.evaluation.methods.columns import Places, Scale
from router.evaluation.methods.ridge import Ridge, fit_ridge
from router.evaluation.samples import Answers, Outcomes, Prompts, Stage, Texts
from router.evaluation.tables import Floats


@dataclass(frozen=True, slots=True)
class PointsmanAfter:
    name: str = "pointsman"
    stage: Stage = Stage.AFTER

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedAfter":
        before, left_out = fit_before(prompts, outcomes)
        helpers = choose_helpers(prompts, outcomes.gain)
        raw = signals(prompts, helpers.of(prompts), left_out)
        scale, templates = Scale.of(raw), Places.of(prompts.templates)
        x = _columns(scale, templates, prompts, raw)
        ridge, predicted = fit_ridge(x, np.column_stack([outcomes.gain, outcomes.small, outcomes.large]))
        platts = (fit_platt(predicted[:, 1], outcomes.small), fit_platt(predicted[:, 2], outcomes.large))
        return FittedAfter(before, helpers, scale, templates, ridge, platts)


@dataclass(frozen=True, slots=True, eq=False)
class FittedAfter:
    before: FittedBefore
    helpers: Helpers
    scale: Scale
    templates: Places
    ridge: Ridge  # of gain, small, large
    platts: tuple[Platt, Platt]

    def estimate(self, prompts: Prompts) -> Estimate:
        called = self.helpers.of(prompts)
        raw = signals(prompts, called, self.before.predict(prompts))
        predicted = self.ridge.predict(_columns(self.scale, self.templates, prompts, raw))
        chances = np.column_stack([platt.chances(predicted[:, 1 + i]) for i, platt in enumerate(self.platts)])
        return Estimate(predicted[:, 0], chances=chances, helpers=called)


def signals(prompts: Prompts, helpers: Texts, expected: Floats) -> Floats:
    """(P, S): what the two answers show, what was *expected* (P, 3) before them, and the products with agreement."""
    same = agree(prompts, helpers)
    small, second = prompts.answers[prompts.small], _second(prompts, helpers)
    shown = np.column_stack([*_of_answer(small), *_of_answer(second), expected])
    lengths = np.log1p(np.nan_to_num(small.tokens)) - np.log1p(np.nan_to_num(second.tokens))
    base = np.column_stack([shown, lengths])
    return np.column_stack([same, base, same[:, None] * base])


def _of_answer(answers: Answers) -> list[Floats]:
    """Whether there is an answer, whether it is a number, its length, and the length of all that was said."""
    keys = ["" if text is None else answer_key(text) for text in answers.texts]
    return [
        np.array([key != "" for key in keys], dtype=np.float64),
        np.array([NUMBER.fullmatch(key) is not None for key in keys], dtype=np.float64),
        np.log1p(np.array([len(key) for key in keys], dtype=np.float64)),
        np.log1p(np.nan_to_num(answers.tokens)),
    ]


def _second(prompts: Prompts, helpers: Texts) -> Answers:
    found = Answers(np.full(len(prompts), None, dtype=object), np.full(len(prompts), np.nan))
    for name in sorted(set(helpers) - {""}):
        rows = helpers == name
        found.texts[rows] = prompts.answers[name].texts[rows]
        found.tokens[rows] = prompts.answers[name].tokens[rows]
    return found


def _columns(scale: Scale, templates: Places, prompts: Prompts, raw: Floats) -> Floats:
    """The signals, the template, and agreement template by template."""
    places = templates.apply(prompts.templates)
    return np.hstack([3 * scale.apply(raw), places, places * raw[:, :1]])
