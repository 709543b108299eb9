"""Learns the solve models from the committed tables. Offline; the only file here that imports scikit-learn."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from router.check import Verifier
from router.difficulty import SolveModel, rounded, write_solve_models
from router.ladder import Split, split_of
from router.outcomes import Outcome
from router.signals import NAMES, Signals

STRENGTHS = np.logspace(-4, 1, 11)  # of the ridge penalty; chosen by cross-validation
FOLDS = 5
SEED = 20261123
VERIFIED_ANSWERS = 30  # of a template, with FEWEST_OF_A_KIND right and wrong ones: fewer say nothing about its slopes
FEWEST_OF_A_KIND = 5
SMALLEST_SCALE = 1e-6  # a signal that varies less is always the same, but for rounding
OWN_SLOPES = 0.5  # how much easier a template's own slopes are than the build's: under 1, they are held closer to zero


@dataclass(frozen=True, slots=True)
class Fitted:
    """A solve model and how well it ranks: area under the ROC curve on prompts it has not seen (0.5 is chance).

    `unseen_task_auc` is the mean over tasks left out of fitting, ranking inside the left-out task.
    """

    model: str
    build: str
    solve_model: SolveModel
    fit_prompts: int
    held_out_auc: float
    unseen_task_auc: float


def fit(
    outcomes: Iterable[Outcome],
    features: Mapping[str, tuple[float, ...]],
    on_model: Callable[[str], None] = lambda name: None,
) -> list[Fitted]:
    """One solve model per build, on the FIT prompts; CALIBRATE says how well it ranks. TEST is not touched."""
    by_build: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        by_build.setdefault((outcome.model, outcome.build), []).append(outcome)
    fitted = []
    for (model, build), rows in sorted(by_build.items()):
        on_model(model)
        fit_rows = [o for o in rows if split_of(o.prompt_id) is Split.FIT]
        held_out = [o for o in rows if split_of(o.prompt_id) is Split.CALIBRATE]
        solve_model = solve_model_of(fit_rows, features)
        scores = [solve_model.chance(features[o.prompt_id]) for o in held_out]
        fitted.append(
            Fitted(
                model=model,
                build=build,
                solve_model=solve_model,
                fit_prompts=len(fit_rows),
                held_out_auc=float(roc_auc_score([o.correct for o in held_out], scores)),
                unseen_task_auc=_unseen_task_auc(fit_rows + held_out, features),
            )
        )
    return fitted


def write_difficulty(path: Path, fitted: Iterable[Fitted]) -> None:
    """JSON that `router.difficulty.load_difficulty` reads."""
    write_solve_models(path, {f.build: (f.model, f.solve_model) for f in fitted})


def solve_model_of(fit_rows: list[Outcome], features: Mapping[str, tuple[float, ...]]) -> SolveModel:
    x = np.array([features[o.prompt_id] for o in fit_rows])  # (prompts, features)
    y = np.array([o.correct for o in fit_rows])
    pipeline = make_pipeline(StandardScaler(), _regression()).fit(x, y)
    scaler, regression = pipeline[0], pipeline[1]
    return SolveModel(
        bias=float(regression.intercept_[0]),
        weights=tuple(map(float, regression.coef_[0])),
        means=tuple(map(float, scaler.mean_)),
        scales=tuple(map(float, scaler.scale_)),
    )


def _regression() -> LogisticRegressionCV:
    return LogisticRegressionCV(
        Cs=STRENGTHS,
        cv=FOLDS,
        scoring="neg_log_loss",
        max_iter=2000,
        random_state=SEED,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )


def _unseen_task_auc(rows: list[Outcome], features: Mapping[str, tuple[float, ...]]) -> float:
    aucs = []
    for task in sorted({o.task for o in rows}):
        inside = [o for o in rows if o.task == task]
        if len({o.correct for o in inside}) < 2:
            continue  # nothing to rank
        model = solve_model_of([o for o in rows if o.task != task], features)
        aucs.append(roc_auc_score([o.correct for o in inside], [model.chance(features[o.prompt_id]) for o in inside]))
    return float(np.mean(aucs))


def fit_verifiers(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, bool], Verifier]:
    """One verifier per (template, build), and one more for beginnings of its answers, on the FIT prompts, for the
    templates with answers enough.

    A build's templates are fitted together: slopes of all, an offset and slopes of each on top, all under one ridge
    penalty that cross-validation chooses. So a template with few answers keeps near the slopes of all.
    """
    answers: dict[tuple[str, bool], list[_Answer]] = {}
    for outcome in outcomes:
        if split_of(outcome.prompt_id) is not Split.FIT:
            continue
        for beginning, signals in ((False, outcome.signals), (True, outcome.first_signals)):
            if signals is not None and signals.is_sound and signals.mean_logprob is not None:
                answer = _Answer(outcome.template, signals, outcome.correct)
                answers.setdefault((outcome.build, beginning), []).append(answer)
    return {
        (template, build, beginning): verifier
        for (build, beginning), rows in answers.items()
        for template, verifier in _verifiers(rows)
    }


@dataclass(frozen=True, slots=True)
class _Answer:
    template: str
    signals: Signals
    correct: bool


def _verifiers(rows: list[_Answer]) -> Iterator[tuple[str, Verifier]]:
    known = [o for o in rows if _tells(o.template, rows)]
    templates = sorted({o.template for o in known})
    if not templates:
        return
    raw = np.array([[np.nan if v is None else v for v in o.signals.values] for o in known])  # (answers, signals)
    raw[:, np.isnan(raw).all(axis=0)] = 0.0  # a signal that nobody recorded says nothing
    means, scales = np.nanmean(raw, axis=0), np.nanstd(raw, axis=0)
    scales[scales < SMALLEST_SCALE] = 1.0
    x = np.nan_to_num((raw - means) / scales)
    own = np.array([[o.template == template for template in templates] for o in known], dtype=float)
    slopes = OWN_SLOPES * (own[:, :, None] * x[:, None, :]).reshape(len(known), -1)
    regression = _regression().fit(np.hstack([x, own, slopes]), [o.correct for o in known])
    shared, offsets, rest = np.split(regression.coef_[0], [len(NAMES), len(NAMES) + len(templates)])
    for template, offset, on_top in zip(templates, offsets, rest.reshape(len(templates), -1), strict=True):
        yield (
            template,
            Verifier(
                bias=rounded(float(regression.intercept_[0] + offset)),
                weights=tuple(rounded(float(w)) for w in shared + OWN_SLOPES * on_top),
                means=tuple(rounded(float(m)) for m in means),
                scales=tuple(rounded(float(s)) for s in scales),
            ),
        )


def _tells(template: str, rows: Iterable[_Answer]) -> bool:
    correct = [o.correct for o in rows if o.template == template]
    kinds = (correct.count(True), correct.count(False))
    return len(correct) >= VERIFIED_ANSWERS and min(kinds) >= FEWEST_OF_A_KIND
