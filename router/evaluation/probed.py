"""How close a probed model comes to one of which everything is known: each model of a set of tables held out in turn.

Profiles are fitted on FIT prompts and judged on TEST prompts (`router.ladder.split_of` of the prompt's id). The prompts
that a probe asks are chosen by what the *other* models did.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.agreement import area
from router.difficulty import SolveModel
from router.evaluation.tables import OutcomeTable
from router.fit import solve_model_of
from router.ladder import Split, split_of
from router.looks import Looks, looks_of
from router.outcomes import Outcome
from router.probe import balanced, profile, shares_of

FEWEST_MODELS = 4  # one held out, and three of which something is known
RESAMPLES = 1000  # of the models
SEED = 20261125
INTERVAL_PERCENT = (2.5, 97.5)
PASS = 0.5  # a score from which on an answer is right

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Means over the held-out models of a set: area under the ROC curve (0.5 is chance) and Brier score (lower is
    better), and how much these differ from those of the fully labelled profile, with 95 % intervals (bootstrap over
    models, which all answered the same prompts).
    """

    set: str
    profile: str
    models: int
    auc: float
    brier: float
    auc_difference: float
    auc_interval: tuple[float, float]
    brier_difference: float
    brier_interval: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """Tables that belong together, and the models that all of them have."""

    outcomes: Mapping[str, Mapping[str, Outcome]]  # by model, then by prompt
    looks: Mapping[str, Looks]


def evaluate_probes(
    tables: Mapping[str, OutcomeTable],
    sizes: Sequence[int],
    known: int | None = None,
    on_model: Callable[[str, str, int], None] = lambda of, model, models: None,
) -> list[ProbeRow]:
    """One row for each profile, of each set: tables whose names are alike up to the first `_` are one set, as a model's
    profile is to tell tasks apart. Sets of fewer than FEWEST_MODELS models are left out. *known*: so many other models,
    drawn anew for each held-out one, have a profile; None: all.
    """
    rows: list[ProbeRow] = []
    for name, of in _sets(tables).items():
        if len(of.outcomes) >= FEWEST_MODELS:
            rows += _rows(name, of, sizes, known, on_model)
    return rows


def _sets(tables: Mapping[str, OutcomeTable]) -> dict[str, _Set]:
    groups: dict[str, list[OutcomeTable]] = defaultdict(list)
    for name, table in tables.items():
        groups[name.split("_")[0]].append(table)
    return {name: _set(group) for name, group in groups.items()}


def _set(tables: Sequence[OutcomeTable]) -> _Set:
    models = sorted(set.intersection(*(set(table.models) for table in tables)))
    outcomes: dict[str, dict[str, Outcome]] = {model: {} for model in models}
    looks = {}
    for table in tables:
        ids = [f"{table.name}/{prompt_id}" for prompt_id in table.prompt_ids]
        for prompt_id, prompt in zip(ids, table.prompts, strict=True):
            looks[prompt_id] = looks_of(prompt)
        for model in models:
            scores = table.scores[:, table.column(model)]
            for prompt_id, template, score in zip(ids, table.templates, scores, strict=True):
                if not np.isnan(score):
                    task = f"{table.name}/{template}"
                    outcomes[model][prompt_id] = _outcome(prompt_id, task, model, bool(score >= PASS))
    return _Set(outcomes, looks)


def _outcome(prompt_id: str, task: str, model: str, correct: bool) -> Outcome:
    return Outcome(prompt_id, task, task, model, model, correct, "stop", 0, 0, None, None, None)


def _rows(
    name: str, of: _Set, sizes: Sequence[int], known: int | None, on_model: Callable[[str, str, int], None]
) -> list[ProbeRow]:
    full: dict[str, SolveModel] = {}
    for model, rows in of.outcomes.items():
        on_model(name, model, len(of.outcomes))
        full[model] = solve_model_of([o for o in rows.values() if split_of(o.prompt_id) is Split.FIT], of.looks)
    judged: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for model, rows in of.outcomes.items():
        others = sorted(full.keys() - {model})
        if known is not None and known < len(others):
            others = random.Random(f"{SEED} {model}").sample(others, known)  # noqa: S311  # no secret
        tests = [o for o in rows.values() if split_of(o.prompt_id) is Split.TEST]
        right = np.array([o.correct for o in tests])
        asked = [(of.looks[o.prompt_id], o.template) for o in tests]
        order = _probe_order(of, model, others, max(sizes))
        judged["fully labelled"].append(_judge([full[model].chance(*one) for one in asked], right))
        for size in sizes:
            probed = profile([rows[p] for p in order[:size]], of.looks, [full[other] for other in others])
            judged[f"probed, {size} prompts"].append(_judge([probed.chance(*one) for one in asked], right))
        mean = np.mean([[full[other].chance(*one) for one in asked] for other in others], axis=0)
        judged["mean of the known"].append(_judge(mean, right))
    return [_row(name, profile_name, judged) for profile_name in judged]


def _probe_order(of: _Set, model: str, others: Sequence[str], size: int) -> list[str]:
    tasks = {p: o.task for p, o in of.outcomes[model].items() if split_of(p) is Split.FIT}
    answers: dict[str, list[float]] = defaultdict(list)
    for prompt_id, task in tasks.items():
        right = [of.outcomes[other][prompt_id].correct for other in others if prompt_id in of.outcomes[other]]
        answers[task].append(float(np.var(right)) if right else 0.0)
    return balanced(tasks, shares_of({task: float(np.mean(spread)) for task, spread in answers.items()}), size)


def _judge(chances: Sequence[float] | Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC and Brier score."""
    chance = np.asarray(chances, dtype=np.float64)
    return area(chance, right), float(np.mean((chance - right) ** 2))


def _row(name: str, profile_name: str, judged: Mapping[str, Sequence[tuple[float, float]]]) -> ProbeRow:
    figures = np.array(judged[profile_name])  # (models, 2)
    differences = figures - np.array(judged["fully labelled"])
    luck = np.random.default_rng(SEED)
    draws = luck.integers(len(figures), size=(RESAMPLES, len(figures)))
    low, high = np.percentile(differences[draws].mean(axis=1), INTERVAL_PERCENT, axis=0)
    auc, brier = figures.mean(axis=0)
    auc_difference, brier_difference = differences.mean(axis=0)
    return ProbeRow(
        set=name,
        profile=profile_name,
        models=len(figures),
        auc=float(auc),
        brier=float(brier),
        auc_difference=float(auc_difference),
        auc_interval=(float(low[0]), float(high[0])),
        brier_difference=float(brier_difference),
        brier_interval=(float(low[1]), float(high[1])),
    )
