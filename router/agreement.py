"""Is a small model's answer right? What a second model that says the same tells, and what log-probabilities add to it.

Offline, on the committed tables; needs the extra `fit`. Nothing that serves imports this.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from router.outcomes import Outcome

RESAMPLES = 500  # of the prompts within each task: an end of an interval is off by a tenth of its length at most
SEED = 20261125
INTERVAL_PERCENT = (2.5, 97.5)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Area:
    """Under the ROC curve (0.5 is chance), with its 95 % interval (bootstrap). Of a difference: of two such areas."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Told:
    """How well a signal ranks answers: over all tasks, and within a task (the mean, each weighing as its prompts do;
    tasks in which all answers are right, or none, have none). None where there is nothing to rank.
    """

    signal: str
    overall: Area | None
    within: Area | None


@dataclass(frozen=True, slots=True)
class PairTold:
    """`prompts`: those that both answered with something that a grader found; `agree` of these say the same."""

    small: str
    second: str
    prompts: int
    tasks: int
    right: int
    agree: int
    signals: Sequence[Told]


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """N prompts: their task, is the small answer right, does the second agree, the small mean log-probability."""

    task: NDArray[np.intp]
    right: Flags
    agrees: Floats
    logprob: Floats


def signals_of_pair(outcomes: Iterable[Outcome], small_build: str, second_build: str) -> PairTold:
    """The names in the result are those of the outcomes; the builds where there are none."""
    kept = [o for o in outcomes if o.said and o.build in (small_build, second_build)]
    small = {o.prompt_id: o for o in kept if o.build == small_build and o.mean_logprob is not None}
    second = {o.prompt_id: o for o in kept if o.build == second_build}
    both = sorted(small.keys() & second.keys())
    answers = _answers([small[p] for p in both], [second[p] for p in both])
    scores = {"agreement": answers.agrees, "mean log-probability": answers.logprob, "both": _both(answers)}
    return PairTold(
        small=next((o.model for o in small.values()), small_build),
        second=next((o.model for o in second.values()), second_build),
        prompts=len(both),
        tasks=len(set(answers.task.tolist())),
        right=int(answers.right.sum()),
        agree=int(answers.agrees.sum()),
        signals=_told(answers, scores) if both else (),
    )


def area(scores: Floats, right: Flags) -> float:
    """P(a right answer scores higher than a wrong one), ties half; NaN where there is but one kind. Shapes (N,)."""
    wrong, good = np.sort(scores[~right]), scores[right]
    if not len(wrong) or not len(good):
        return float("nan")
    below = np.searchsorted(wrong, good, "left") + np.searchsorted(wrong, good, "right")
    return float(below.sum() / (2 * len(wrong) * len(good)))


def area_within(scores: Floats, right: Flags, task: NDArray[np.intp]) -> float:
    """The mean of `area` over tasks, weighed by their prompts; NaN where no task has both kinds."""
    areas, weights = [], []
    for one in np.unique(task):
        inside = task == one
        found = area(scores[inside], right[inside])
        if not np.isnan(found):
            areas.append(found)
            weights.append(int(inside.sum()))
    return float(np.average(areas, weights=weights)) if areas else float("nan")


def _answers(small: Sequence[Outcome], second: Sequence[Outcome]) -> _Answers:
    names = {name: place for place, name in enumerate(sorted({o.task for o in small}))}
    return _Answers(
        task=np.array([names[o.task] for o in small], dtype=np.intp),
        right=np.array([o.correct for o in small], dtype=bool),
        agrees=np.array([one.said == other.said for one, other in zip(small, second, strict=True)], dtype=float),
        logprob=np.array([o.mean_logprob for o in small], dtype=float),
    )


def _both(answers: _Answers) -> Floats:
    """The chance by a logistic model of both signals that was fitted on the *other* tasks, for each answer."""
    x = np.column_stack([answers.agrees, answers.logprob])
    chances = np.full(len(x), 0.5)
    for task in np.unique(answers.task):
        inside = answers.task == task
        if len(np.unique(answers.right[~inside])) == 2:
            model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[~inside], answers.right[~inside])
            chances[inside] = model.predict_proba(x[inside])[:, 1]
    return chances


def _told(answers: _Answers, scores: Mapping[str, Floats]) -> list[Told]:
    """One for each of *scores*, and what both have over agreement alone."""
    luck = np.random.default_rng(SEED)
    by_task = [np.flatnonzero(answers.task == task) for task in np.unique(answers.task)]
    draws = [np.concatenate([luck.choice(rows, len(rows)) for rows in by_task]) for _ in range(RESAMPLES)]
    every = np.arange(len(answers.right))

    def overall(name: str) -> Callable[[NDArray[np.intp]], float]:
        return lambda rows: area(scores[name][rows], answers.right[rows])

    def within(name: str) -> Callable[[NDArray[np.intp]], float]:
        return lambda rows: area_within(scores[name][rows], answers.right[rows], answers.task[rows])

    def drawn(measure: Callable[[NDArray[np.intp]], float]) -> Floats:
        """Of all rows first, then of each draw."""
        return np.array([measure(rows) for rows in [every, *draws]])

    found = {name: (drawn(overall(name)), drawn(within(name))) for name in scores}
    over = [both - alone for both, alone in zip(found["both"], found["agreement"], strict=True)]
    rows = {**found, "both, over agreement": (over[0], over[1])}
    return [Told(name, _area(of_all), _area(of_tasks)) for name, (of_all, of_tasks) in rows.items()]


def _area(values: Floats) -> Area | None:
    if np.isnan(values[0]):
        return None
    low, high = np.nanpercentile(values[1:], INTERVAL_PERCENT)
    return Area(float(values[0]), (float(low), float(high)))
