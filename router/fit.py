"""Learns the solve models from the committed tables. Offline; the only file here that imports scikit-learn."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from router.difficulty import SolveModel
from router.features import FEATURES
from router.ladder import Split, split_of
from router.outcomes import Outcome

STRENGTHS = np.logspace(-4, 1, 11)  # of the ridge penalty; chosen by cross-validation
FOLDS = 5
SEED = 20261123


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
        solve_model = _solve_model(fit_rows, features)
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
    models = {
        f.build: {
            "name": f.model,
            "bias": _rounded(f.solve_model.bias),
            "weights": list(map(_rounded, f.solve_model.weights)),
            "means": list(map(_rounded, f.solve_model.means)),
            "scales": list(map(_rounded, f.solve_model.scales)),
        }
        for f in fitted
    }
    path.write_text(json.dumps({"features": list(FEATURES), "models": models}, indent=1) + "\n", encoding="utf-8")


def _rounded(number: float) -> float:
    """To six significant digits, not decimals: a scale may be small, and one of 0 could not be divided by."""
    return float(f"{number:.6g}")


def _solve_model(fit_rows: list[Outcome], features: Mapping[str, tuple[float, ...]]) -> SolveModel:
    x = np.array([features[o.prompt_id] for o in fit_rows])  # (prompts, features)
    y = np.array([o.correct for o in fit_rows])
    pipeline = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=STRENGTHS,
            cv=FOLDS,
            scoring="neg_log_loss",
            max_iter=2000,
            random_state=SEED,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        ),
    ).fit(x, y)
    scaler, regression = pipeline[0], pipeline[1]
    return SolveModel(
        bias=float(regression.intercept_[0]),
        weights=tuple(map(float, regression.coef_[0])),
        means=tuple(map(float, scaler.mean_)),
        scales=tuple(map(float, scaler.scale_)),
    )


def _unseen_task_auc(rows: list[Outcome], features: Mapping[str, tuple[float, ...]]) -> float:
    aucs = []
    for task in sorted({o.task for o in rows}):
        inside = [o for o in rows if o.task == task]
        if len({o.correct for o in inside}) < 2:
            continue  # nothing to rank
        model = _solve_model([o for o in rows if o.task != task], features)
        aucs.append(roc_auc_score([o.correct for o in inside], [model.chance(features[o.prompt_id]) for o in inside]))
    return float(np.mean(aucs))
