"""A new model's ability profile from a few prompts: which prompts, and what their outcomes say beside known models.

A solve model has a number for each feature and template, and 200 outcomes are few for them. But known models differ
from each other in few ways: their own numbers, on a common scale, are taken for draws of one normal distribution, whose
mean and covariance are the prior of the new model's. Its outcomes then mostly move it along the directions in which
models do differ (the idea of UniRoute, arXiv 2502.08773, and of item response theory, 2506.01048: a model is its errors
on a small probe set).

Pure; needs numpy (the extra `fit`). Nothing that serves imports this.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from router.difficulty import MOST_DEVIATIONS, SolveModel
from router.ladder import Split, split_of
from router.looks import Looks
from router.outcomes import Outcome

FIT_PROMPTS = 200
CALIBRATE_PROMPTS = 100  # on which the profile is not fitted: they say from which score on it may be trusted
EQUAL_SHARE = 0.5  # of the FIT prompts every task gets as many; the rest go where known models differ
OWN_WAY = 0.05  # standard deviation of a weight in directions in which no known models differ; see EXPERIMENTS.md
OWN_TEMPLATE = 0.3  # of a template's offset besides
OWN_LEVEL = 1.0  # of the bias besides: a new model may be better or worse than all that are known
NEWTON_STEPS = 50
CONVERGED = 1e-8
LARGEST_LOGIT = 30.0

Floats = NDArray[np.float64]


class ProbeError(ValueError):
    """There is nothing to go by; the message says what is missing."""


def choose(outcomes: Iterable[Outcome]) -> list[str]:
    """The ids of a probe set, of the prompts that at least two builds have answered; TEST prompts are never among them.

    Any beginning of it is balanced. Which *tasks* get more prompts depends on how much known models differ there; which
    prompts of a task are taken does not, or their outcomes would say nothing of the task's others.
    """
    answers: dict[str, dict[str, bool]] = defaultdict(dict)
    tasks: dict[str, str] = {}
    for outcome in outcomes:
        answers[outcome.prompt_id][outcome.build] = outcome.correct
        tasks[outcome.prompt_id] = outcome.task
    known = {p: list(of.values()) for p, of in answers.items() if len(of) > 1}
    spread = {
        task: float(np.mean([np.var(of) for p, of in known.items() if tasks[p] == task]))
        for task in {tasks[p] for p in known}
    }
    by_split = {split: {p: tasks[p] for p in known if split_of(p) is split} for split in Split}
    fit = balanced(by_split[Split.FIT], shares_of(spread), FIT_PROMPTS)
    calibrate = balanced(by_split[Split.CALIBRATE], dict.fromkeys(spread, 1.0), CALIBRATE_PROMPTS)
    every = max(1, round(len(fit) / max(1, len(calibrate))))
    mixed: list[str] = []
    for place, prompt_id in enumerate(fit, start=1):
        mixed.append(prompt_id)
        if place % every == 0 and calibrate:
            mixed.append(calibrate.pop(0))
    return mixed + calibrate


def shares_of(spread: Mapping[str, float]) -> dict[str, float]:
    """How the prompts are shared out among tasks: EQUAL_SHARE equally, the rest by *spread*, how much models differ."""
    total = sum(spread.values())
    rest = 1 - EQUAL_SHARE
    return {
        task: EQUAL_SHARE / len(spread) + (rest * of / total if total > 0 else rest / len(spread))
        for task, of in spread.items()
    }


def balanced(tasks: Mapping[str, str], shares: Mapping[str, float], size: int) -> list[str]:
    """At most *size* of the prompts (keys of *tasks*), in an order of which any beginning is shared out as *shares* say
    as well as whole prompts allow; within a task, by a hash of the id.
    """
    waiting: dict[str, list[str]] = defaultdict(list)
    for prompt_id in sorted(tasks, key=_draw, reverse=True):
        waiting[tasks[prompt_id]].append(prompt_id)
    taken: dict[str, int] = dict.fromkeys(waiting, 0)
    chosen: list[str] = []
    while waiting and len(chosen) < size:
        task = min(waiting, key=lambda task: ((taken[task] + 0.5) / shares[task], task))  # Webster's method
        chosen.append(waiting[task].pop())
        taken[task] += 1
        if not waiting[task]:
            del waiting[task]
    return chosen


def profile(outcomes: Sequence[Outcome], looks: Mapping[str, Looks], known: Sequence[SolveModel]) -> SolveModel:
    """The most likely solve model of the one that had *outcomes*, given those of *known* models. Raises ProbeError.

    What words say is taken from the known ones: so few outcomes say nothing of thousands of weights.
    """
    if not known:
        raise ProbeError("no other model has a profile to go by; fit some with: pointsman ladder fit")
    if not outcomes:
        raise ProbeError("there are no outcomes to go by")
    means, scales = np.array(known[0].means), np.array(known[0].scales)
    templates = sorted({template for model in known for template in model.offsets})
    words = tuple(np.mean([model.words for model in known], axis=0).tolist())
    told = SolveModel(0.0, known[0].weights, known[0].means, known[0].scales, words=words)
    of_known = np.array([_on_scale(model, means, scales, templates) for model in known])
    x = np.array([looks[o.prompt_id].features for o in outcomes])
    z = np.clip((x - means) / scales, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    own = np.array([[o.template == template for template in templates] for o in outcomes], dtype=float)
    columns = np.hstack([np.ones((len(x), 1)), z, own.reshape(len(x), len(templates))])
    given = np.array([told.of_words(looks[o.prompt_id].words) for o in outcomes])
    right = np.array([o.correct for o in outcomes], dtype=float)
    prior = _covariance(of_known, templates=len(templates))
    found = _most_likely(columns, given, right, of_known.mean(axis=0), prior)
    weights, offsets = found[1 : 1 + len(means)], found[1 + len(means) :]
    return SolveModel(
        bias=float(found[0]),
        weights=tuple(weights.tolist()),
        means=known[0].means,
        scales=known[0].scales,
        offsets=dict(zip(templates, offsets.tolist(), strict=True)),
        words=words,
    )


def _on_scale(model: SolveModel, means: Floats, scales: Floats, templates: Sequence[str]) -> Floats:
    """Bias, weights and offsets of the same model for features that are shifted by *means* and divided by *scales*."""
    raw = np.array(model.weights) / np.array(model.scales)
    bias = model.bias + float(raw @ (means - np.array(model.means)))
    return np.concatenate([[bias], raw * scales, [model.offsets.get(template, 0.0) for template in templates]])


def _covariance(of_known: Floats, templates: int) -> Floats:
    size = of_known.shape[1]
    between = np.cov(of_known.T) if len(of_known) > 1 else np.zeros((size, size))
    own = np.full(size, OWN_WAY**2)
    own[0] += OWN_LEVEL**2
    own[size - templates :] += OWN_TEMPLATE**2
    return np.asarray(between + np.diag(own), dtype=np.float64)


def _most_likely(z: Floats, given: Floats, right: Floats, mean: Floats, covariance: Floats) -> Floats:
    """The maximum a posteriori of a logistic model with this normal prior, by Newton's method with halved steps.

    *given* (P,): a part of each prompt's logit that is known.
    """
    precision = np.linalg.inv(covariance)

    def logits(w: Floats) -> Floats:
        return np.asarray(np.clip(given + z @ w, -LARGEST_LOGIT, LARGEST_LOGIT), dtype=np.float64)

    def loss(w: Floats) -> float:
        likelihood = np.logaddexp(0.0, logits(w)).sum() - right @ logits(w)
        return float(likelihood + (w - mean) @ precision @ (w - mean) / 2)

    w = mean.copy()
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-logits(w)))
        slope = z.T @ (right - chance) - precision @ (w - mean)
        step = np.linalg.solve((z.T * (chance * (1 - chance))) @ z + precision, slope)
        while loss(w + step) > loss(w) and np.abs(step).max() > CONVERGED:
            step = step / 2
        w = w + step
        if np.abs(step).max() <= CONVERGED:
            break
    return w


def _draw(prompt_id: str) -> str:
    return hashlib.sha256(f"probe:{prompt_id}".encode()).hexdigest()
