"""The whole evaluation: every set, stage and method, the promises, the AIQ. Decides what is computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from router.evaluation.estimates import (
    Milliseconds,
    cross_validated,
    fitted_elsewhere,
    ranked_by_fold,
    time_decisions,
)
from router.evaluation.estimator import Estimate, Estimator
from router.evaluation.hits import SPLITS, Hits, Promise, hit_rate
from router.evaluation.judge import Calibration, Judged, Row, always, judge
from router.evaluation.many import Aiq, aiq_of, priced
from router.evaluation.methods import METHODS, POINTSMAN
from router.evaluation.methods.complexity import ComplexityRules, is_there
from router.evaluation.metrics import RESAMPLES, Counts, Curve, resampled_counts
from router.evaluation.samples import Outcomes, Sample, Stage
from router.evaluation.sets import Set, sample, sets_of
from router.evaluation.splits import FOLDS
from router.evaluation.tables import OutcomeTable, TableError, read_folder
from router.evaluation.views import Embeds, KnownViews, load_embedder, view

SEED = 20261125
LEAST_PROMPTS = 20  # of a set: with fewer nothing can be said
PROMISED = ("mmlu-pro", "mix4", "gsm8k-2b")
COMPARED = {Stage.BEFORE: "template", Stage.AFTER: "agreement"}  # the row to beat

Tables = Mapping[str, OutcomeTable]
OnStep = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass(frozen=True, slots=True)
class Results:
    """`curves`, by set, stage, method: quality over the share of large calls. `notes`: what was left out, and why."""

    rows: list[Row] = field(default_factory=list)
    targets: list[Hits] = field(default_factory=list)
    calibration: list[Calibration] = field(default_factory=list)
    aiq: list[Aiq] = field(default_factory=list)
    curves: dict[tuple[str, Stage, str], Curve] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Steps:
    """Tells how far the work is."""

    on_step: OnStep
    total: int
    done: int = 0

    def begin(self, doing: str) -> None:
        self.on_step(doing, self.done, self.total)

    def end(self, steps: int = 1) -> None:
        self.done += steps
        self.on_step("", self.done, self.total)


@dataclass(frozen=True, slots=True)
class Options:
    folds: int = FOLDS
    resamples: int = RESAMPLES
    splits: int = SPLITS
    only: Sequence[str] = ()  # sets; empty for all


@dataclass(frozen=True, slots=True, eq=False)
class _Folders:
    train: Tables
    test: Tables | None
    train_views: Mapping[str, KnownViews]
    test_views: Mapping[str, KnownViews]

    @property
    def judged(self) -> Tables:
        return self.train if self.test is None else self.test

    @property
    def judged_views(self) -> Mapping[str, KnownViews]:
        return self.train_views if self.test is None else self.test_views


def evaluate(
    train: Path, test: Path | None, options: Options, on_step: OnStep, embedder: Embeds | None = None
) -> Results:
    """Fitted on *train*, judged on *test*, or on *train* by cross-validation where that is None. Raises TableError."""
    embedder = embedder or load_embedder()
    steps = _Steps(on_step, total=1)
    folders = _read(train, test, embedder, steps)
    sets = _wanted(sets_of(folders.train, folders.judged), options)
    tables = [name for name in sorted(folders.judged) if name in folders.train and _is_wanted(name, options)]
    steps.total = steps.done + len(sets) * len(_methods()) + len(tables)
    results = Results()
    if not is_there():
        results.notes.append("litellm-complexity is left out: pip install 'pointsman[litellm]'")
    for one in sets:
        _evaluate_set(one, folders, options, embedder, results, steps)
    for name in tables:
        steps.begin(f"{name}: AIQ")
        results.aiq.extend(_aiq(name, folders, options))
        steps.end()
    return results


def _wanted(sets: Sequence[Set], options: Options) -> list[Set]:
    unknown = sorted(set(options.only) - {one.name for one in sets})
    if unknown:
        there = ", ".join(one.name for one in sets)
        raise TableError(f"no set {unknown[0]!r} can be made of these tables; there are: {there}")
    return [one for one in sets if _is_wanted(one.name, options)]


def _is_wanted(name: str, options: Options) -> bool:
    return not options.only or name in options.only


def _read(train: Path, test: Path | None, embedder: Embeds, steps: _Steps) -> _Folders:
    train_tables = read_folder(train, lambda name: steps.begin(f"reading {name}"))
    test_tables = read_folder(test, lambda name: steps.begin(f"reading {name}")) if test else None
    steps.total = len(train_tables) + len(test_tables or {})

    def seen(tables: Tables) -> dict[str, KnownViews]:
        found = {}
        for name, table in tables.items():
            steps.begin(f"looking at {name}")
            found[name] = view(table.prompts, embedder)
            steps.end()
        return found

    return _Folders(train_tables, test_tables, seen(train_tables), seen(test_tables or {}))


def _evaluate_set(
    one: Set, folders: _Folders, options: Options, embedder: Embeds, results: Results, steps: _Steps
) -> None:
    fit = sample(one, one.fitted, folders.train, folders.train_views)
    apart = folders.test is not None or one.left_out is not None
    judged = sample(one, one.judged, folders.judged, folders.judged_views) if apart else fit
    enough = min(len(fit), len(judged)) >= LEAST_PROMPTS
    if not enough:
        results.notes.append(f"{one.name} is left out: under {LEAST_PROMPTS} prompts that both models answered")
    counts = resampled_counts(max(1, len(judged)), np.random.default_rng(SEED), options.resamples)
    for stage in Stage:
        methods = _methods(stage)
        if not enough or (stage is Stage.AFTER and not (_answered(fit) and _answered(judged))):
            steps.end(len(methods))
            continue
        rows: dict[str, Judged] = {}
        for estimator in methods:
            steps.begin(f"{one.name} {stage} {estimator.name}")
            estimate, took = _estimate(estimator, fit, judged if apart else None, options, embedder)
            ranking = estimate if apart else _comparable(estimate, judged, options.folds)
            rows[estimator.name] = judge(one, stage, estimator.name, judged, ranking, counts, took)
            if estimator.name in (POINTSMAN, COMPARED[stage]) and one.name in PROMISED:
                more = cross_validated(estimator, fit, options.folds)[0] if folders.test is not None else None
                results.targets.extend(_promises(one, estimator, fit, judged, ranking, more, options))
            steps.end()
        _keep(one, stage, judged, rows, counts, results)


def _estimate(
    estimator: Estimator, fit: Sample, judged: Sample | None, options: Options, embedder: Embeds
) -> tuple[Estimate, Milliseconds]:
    if judged is None:
        estimate, fitted = cross_validated(estimator, fit, options.folds)
    else:
        estimate, fitted = fitted_elsewhere(estimator, fit, judged)
    return estimate, time_decisions(fitted, (judged or fit).prompts, embedder)


def _comparable(estimate: Estimate, judged: Sample, folds: int) -> Estimate:
    return replace(estimate, gain=ranked_by_fold(estimate.gain, judged.prompts.ids, folds))


def _keep(one: Set, stage: Stage, judged: Sample, rows: dict[str, Judged], counts: Counts, results: Results) -> None:
    """The rows, each beside the one to beat, and those of the ends and of the oracle."""
    rows["oracle"] = judge(one, stage, "oracle", judged, Estimate(judged.outcomes.gain), counts)
    compared = rows[COMPARED[stage]]
    for name, of in rows.items():
        row = of.row if of is compared else of.beside(compared)
        results.rows.append(row)
        results.calibration.extend(of.calibration)
        results.curves[one.name, stage, name] = of.quality
    results.rows.extend(always(one, stage, judged, large=large) for large in (False, True))


def _promises(
    one: Set,
    estimator: Estimator,
    fit: Sample,
    judged: Sample,
    estimate: Estimate,
    more: Estimate | None,
    options: Options,
) -> list[Hits]:
    """*more*: cross-validated estimates of the fitted prompts, which calibrate too where others are judged."""
    gain, outcomes = estimate.gain, judged.outcomes
    if more is not None:
        gain = np.concatenate([gain, more.gain])
        outcomes = _both(outcomes, fit.outcomes)
    if not np.isin(np.concatenate([outcomes.small, outcomes.large]), (0.0, 1.0)).all():
        return []  # the bound is for answers that are right or wrong
    rows = np.arange(len(judged))
    return [
        hit_rate(one.name, estimator, gain, outcomes, rows, promise, np.random.default_rng(SEED), options.splits)
        for promise in Promise
    ]


def _both(one: Outcomes, other: Outcomes) -> Outcomes:
    """The scores of the pair alone; those of other models are not needed for promises."""
    small, large = np.concatenate([one.small, other.small]), np.concatenate([one.large, other.large])
    return Outcomes(small, large, np.empty((len(small), 0)), ())


def _answered(of: Sample) -> bool:
    """Whether the small model and one more have left answers, which stage `after` looks at."""
    there = [name for name, answers in of.prompts.answers.items() if any(text is not None for text in answers.texts)]
    return of.prompts.small in there and len(there) > 1


def _methods(stage: Stage | None = None) -> list[Estimator]:
    there = is_there()
    known = [method for method in METHODS if there or not isinstance(method, ComplexityRules)]
    return [method for method in known if stage is None or method.stage is stage]


def _aiq(name: str, folders: _Folders, options: Options) -> list[Aiq]:
    fit = priced(folders.train[name], folders.train_views[name])
    judged = priced(folders.test[name], folders.test_views[name]) if folders.test is not None else None
    if fit is None or (folders.test is not None and judged is None):
        return []
    return aiq_of(name, fit, judged, options.folds, np.random.default_rng(SEED))
