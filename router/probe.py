"""A new model's ability profile from a few prompts: which prompts, and what their outcomes say beside known models.

A solve model has 21 numbers, and 200 outcomes are few for them. But known models differ from each other in few ways:
their own numbers, on a common scale, are taken for draws of one normal distribution, whose mean and covariance are the
prior of the new model's. Its outcomes then mostly move it along the directions in which models do differ (the idea of
UniRoute, arXiv 2502.08773, and of item response theory, 2506.01048: a model is its errors on a small probe set).

Pure; needs numpy (the extra `fit`). Nothing that serves imports this.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from router.difficulty import SolveModel
from router.ladder import Split, split_of
from router.outcomes import Outcome

FIT_PROMPTS = 200
CALIBRATE_PROMPTS = 100  # on which the profile is not fitted: they say from which score on it may be trusted
EQUAL_SHARE = 0.5  # of the FIT prompts every task gets as many; the rest go where known models differ
OWN_WAY = 0.05  # standard deviation of a weight in directions in which no known models differ; see EXPERIMENTS.md
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


def profile(
    outcomes: Sequence[Outcome], features: Mapping[str, tuple[float, ...]], known: Sequence[SolveModel]
) -> SolveModel:
    """The most likely solve model of the one that had *outcomes*, given those of *known* models. Raises ProbeError."""
    if not known:
        raise ProbeError("no other model has a profile to go by; fit some with: pointsman ladder fit")
    if not outcomes:
        raise ProbeError("there are no outcomes to go by")
    means, scales = np.array(known[0].means), np.array(known[0].scales)
    weights = np.array([_on_scale(model, means, scales) for model in known])  # (known, 1 + features)
    x = np.array([features[o.prompt_id] for o in outcomes])
    z = np.column_stack([np.ones(len(x)), (x - means) / scales])
    right = np.array([o.correct for o in outcomes], dtype=float)
    found = _most_likely(z, right, weights.mean(axis=0), _covariance(weights))
    return SolveModel(
        bias=float(found[0]),
        weights=tuple(map(float, found[1:])),
        means=known[0].means,
        scales=known[0].scales,
    )


def _on_scale(model: SolveModel, means: Floats, scales: Floats) -> Floats:
    """Bias and weights of the same model for features that are shifted by *means* and divided by *scales*."""
    raw = np.array(model.weights) / np.array(model.scales)
    bias = model.bias + float(raw @ (means - np.array(model.means)))
    return np.concatenate([[bias], raw * scales])


def _covariance(weights: Floats) -> Floats:
    size = weights.shape[1]
    between = np.cov(weights.T) if len(weights) > 1 else np.zeros((size, size))
    prior = np.asarray(between + OWN_WAY**2 * np.eye(size), dtype=np.float64)
    prior[0, 0] += OWN_LEVEL**2
    return prior


def _most_likely(z: Floats, right: Floats, mean: Floats, covariance: Floats) -> Floats:
    """The maximum a posteriori of a logistic model with this normal prior, by Newton's method with halved steps."""
    precision = np.linalg.inv(covariance)

    def loss(w: Floats) -> float:
        logits = np.clip(z @ w, -LARGEST_LOGIT, LARGEST_LOGIT)
        likelihood = np.logaddexp(0.0, logits).sum() - right @ logits
        return float(likelihood + (w - mean) @ precision @ (w - mean) / 2)

    w = mean.copy()
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(z @ w, -LARGEST_LOGIT, LARGEST_LOGIT)))
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
