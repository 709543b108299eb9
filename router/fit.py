"""Learns the solve models from the committed tables. Offline; the only file here that imports scikit-learn."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from router.check import Verifier
from router.difficulty import MOST_DEVIATIONS, SolveModel, rounded, write_solve_models
from router.features import FEATURES
from router.ladder import Split, split_of
from router.looks import Looks
from router.outcomes import Outcome
from router.signals import NAMES, Signals
from router.words import PLACES

STRENGTHS = np.logspace(-4, 1, 11)  # of the verifiers' ridge penalty; chosen by cross-validation
SOLVE_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)  # of the solve models'
FOLDS = 5
SEED = 20261123
VERIFIED_ANSWERS = 30  # of a template, with FEWEST_OF_A_KIND right and wrong ones: fewer say nothing about its slopes
FEWEST_OF_A_KIND = 5
SMALLEST_SCALE = 1e-6  # a signal that varies less is always the same, but for rounding
OWN_SLOPES = 0.5  # how much easier a template's own slopes are than the build's: under 1, they are held closer to zero


@dataclass(frozen=True, slots=True)
class Fitted:
    """A solve model and how well it ranks: area under the ROC curve on prompts it has not seen (0.5 is chance).

    `unseen_task_auc` is the mean over tasks left out of fitting, ranking inside the left-out task. `chances`: by
    prompt, that of a model which was not fitted on it; of FIT prompts by cross-validation.
    """

    model: str
    build: str
    solve_model: SolveModel
    fit_prompts: int
    held_out_auc: float
    unseen_task_auc: float
    chances: Mapping[str, float]


def fit(
    outcomes: Iterable[Outcome],
    looks: Mapping[str, Looks],
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
        seen = _seen(fit_rows, looks)
        strength, left_out = best_strength(seen)
        solve_model = fit_solve_model(seen, strength)
        scores = [solve_model.chance(looks[o.prompt_id], o.template) for o in held_out]
        fitted.append(
            Fitted(
                model=model,
                build=build,
                solve_model=solve_model,
                fit_prompts=len(fit_rows),
                held_out_auc=float(roc_auc_score([o.correct for o in held_out], scores)),
                unseen_task_auc=_unseen_task_auc(fit_rows + held_out, looks, strength),
                chances=dict(zip((o.prompt_id for o in fit_rows + held_out), [*left_out, *scores], strict=True)),
            )
        )
    return fitted


def with_chances(outcomes: Iterable[Outcome], fitted: Iterable[Fitted]) -> list[Outcome]:
    """The same outcomes, each with the chance that a model which was not fitted on it gave it."""
    chances = {(one.build, prompt_id): rounded(of) for one in fitted for prompt_id, of in one.chances.items()}
    return [replace(o, chance=chances.get((o.build, o.prompt_id))) for o in outcomes]


def write_difficulty(path: Path, fitted: Iterable[Fitted]) -> None:
    """JSON that `router.difficulty.load_difficulty` reads."""
    write_solve_models(path, {f.build: (f.model, f.solve_model) for f in fitted})


@dataclass(frozen=True, slots=True)
class SeenPrompt:
    """What a solve model is fitted on: `template` is None for a prompt of none."""

    looks: Looks
    template: str | None
    correct: bool


def _seen(rows: Iterable[Outcome], looks: Mapping[str, Looks]) -> list[SeenPrompt]:
    return [SeenPrompt(looks[o.prompt_id], o.template, o.correct) for o in rows]


def solve_model_of(rows: Iterable[Outcome], looks: Mapping[str, Looks]) -> SolveModel:
    """Of the build that had these outcomes, with the best strength."""
    seen = _seen(rows, looks)
    return fit_solve_model(seen, best_strength(seen)[0])


def best_strength(prompts: Sequence[SeenPrompt]) -> tuple[float, Sequence[float]]:
    """Of SOLVE_STRENGTHS, the one with the least log loss on folds left out, and the chances (P,) it gave these."""
    columns = _Columns.of(prompts)
    x, y = columns.apply(prompts), np.array([p.correct for p in prompts])
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(x, y))
    chances = np.empty((len(SOLVE_STRENGTHS), len(y)))
    for place, strength in enumerate(SOLVE_STRENGTHS):
        for inside, outside in folds:
            regression = _solve_regression(strength).fit(x[inside], y[inside])
            chances[place, outside] = regression.predict_proba(x[outside])[:, 1]
    best = int(np.argmin([log_loss(y, of) for of in chances]))
    return SOLVE_STRENGTHS[best], chances[best].tolist()


def fit_solve_model(prompts: Sequence[SeenPrompt], strength: float) -> SolveModel:
    """Features, template and words under one ridge penalty; each of the three has about length one."""
    columns = _Columns.of(prompts)
    right = [p.correct for p in prompts]
    if len(set(right)) < 2:  # nothing tells them apart, however sure that looks
        zeros = (0.0,) * len(FEATURES)
        bias = log((sum(right) + 1) / (len(right) - sum(right) + 1))
        everywhere = dict.fromkeys(columns.templates, 0.0)
        return SolveModel(bias, zeros, tuple(columns.means.tolist()), tuple(columns.scales.tolist()), everywhere)
    regression = _solve_regression(strength).fit(columns.apply(prompts), right)
    slopes = regression.coef_[0]
    weights, offsets, words = np.split(slopes, [len(FEATURES), len(FEATURES) + len(columns.templates)])
    return SolveModel(
        bias=float(regression.intercept_[0]),
        weights=tuple((weights / np.sqrt(len(FEATURES))).tolist()),
        means=tuple(columns.means.tolist()),
        scales=tuple(columns.scales.tolist()),
        offsets=dict(zip(columns.templates, offsets.tolist(), strict=True)),
        words=tuple(words.tolist()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """What `SolveModel.chance` adds up, as columns."""

    means: NDArray[np.float64]
    scales: NDArray[np.float64]
    templates: tuple[str, ...]

    @classmethod
    def of(cls, prompts: Sequence[SeenPrompt]) -> "_Columns":
        raw = np.array([p.looks.features for p in prompts])
        scales = raw.std(axis=0)
        templates = sorted({p.template for p in prompts if p.template})
        return cls(raw.mean(axis=0), np.where(scales < SMALLEST_SCALE, 1.0, scales), tuple(templates))

    def apply(self, prompts: Sequence[SeenPrompt]) -> csr_matrix:
        """(P, features + templates + PLACES)."""
        raw = np.array([p.looks.features for p in prompts])
        features = np.clip((raw - self.means) / self.scales, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        own = np.array([[p.template == template for template in self.templates] for p in prompts], dtype=float)
        counts = [len(p.looks.words) for p in prompts]
        places = np.fromiter((place for p in prompts for place in p.looks.words), dtype=np.intp)
        lengths = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
        starts = np.concatenate([[0], np.cumsum(counts)])
        words = csr_matrix((lengths, places, starts), shape=(len(prompts), PLACES))
        return hstack([features / np.sqrt(len(FEATURES)), own, words], format="csr")


def _solve_regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=2000, random_state=SEED)


def _unseen_task_auc(rows: list[Outcome], looks: Mapping[str, Looks], strength: float) -> float:
    aucs = []
    for task in sorted({o.task for o in rows}):
        inside = [o for o in rows if o.task == task]
        if len({o.correct for o in inside}) < 2:
            continue  # nothing to rank
        model = fit_solve_model(_seen([o for o in rows if o.task != task], looks), strength)
        scores = [model.chance(looks[o.prompt_id]) for o in inside]
        aucs.append(roc_auc_score([o.correct for o in inside], scores))
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


def _tells(template: str, rows: Iterable[_Answer]) -> bool:
    correct = [o.correct for o in rows if o.template == template]
    kinds = (correct.count(True), correct.count(False))
    return len(correct) >= VERIFIED_ANSWERS and min(kinds) >= FEWEST_OF_A_KIND
