"""Which layers can do with fewer bits, which blocks and channels can go, and how much of a context must be read: the
front of cost against quality, by Optuna.

Layers are chosen for in groups, a run of blocks and a kind (attention, feed-forward) each, since a trial per layer
would take thousands. A trial rounds weights to the nearest in memory and foretells a text; nothing is written before
the end. Its trials are kept as they come, so an interrupted search goes on.

Cost is the size of the matrices. Where a context is named it is what a decode step reads at its end, which bits and a
budget of attention both move.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend

from models.compress.checkpoint import Checkpoint, dense
from models.compress.laboratory import KINDS, Build, Laboratory
from models.compress.loading import model_of, tokenizer_of, windows
from models.compress.prune import influences
from models.compress.quantize import MOST_WINDOWS, WINDOW_TOKENS
from models.compress.schemes import KEPT, W4A16, W8A8
from models.compress.width import ALL, importances, widths
from models.compress.work import Work
from models.job import JobFailed, OnStep, Step
from models.sparse.budget import Budget

CHOICES = (W4A16, W8A8, KEPT)
BUDGETS = (256, 512, 1024, 2048)  # tokens
FORETOLD_WINDOWS = 4  # of the text, where there is no context
JOURNAL, INFLUENCES, IMPORTANCES = "trials.journal", "influences.json", "importances.json"


@dataclass(frozen=True, slots=True)
class Space:
    """What trials choose from. `widths`: channels by the share of them; `budgets`: tokens, None is all."""

    runs: int
    most_dropped: int
    widths: Mapping[float, int]
    budgets: Sequence[int | None]

    @classmethod
    def of(cls, source: Checkpoint, settings: Mapping[str, Any]) -> "Space":
        """Raises JobFailed."""
        return cls(
            min(int(settings["runs"]), source.blocks),
            min(int(settings["most_dropped"]), source.blocks - 2),
            widths(int(source.config["intermediate_size"]), float(settings["least_width"])),
            _budgets(source, settings["context"]),
        )

    def suggest(self, trial: optuna.trial.Trial) -> None:
        for name in self._bits():
            trial.suggest_categorical(name, CHOICES)
        trial.suggest_int("drop", 0, self.most_dropped)
        trial.suggest_categorical("keep", tuple(self.widths))
        trial.suggest_categorical("budget", self.budgets)

    def build(self, params: Mapping[str, Any]) -> Build:
        bits, keep = {name: int(params[name]) for name in self._bits()}, params["keep"]
        return Build(bits, params["drop"], None if keep == ALL else self.widths[keep], params["budget"])

    def first(self) -> Iterator[dict[str, Any]]:
        """What everybody would try first: the same bits everywhere, then each budget with eight, which cost least."""
        for bits in CHOICES:
            yield {**dict.fromkeys(self._bits(), bits), "drop": 0, "keep": ALL, "budget": None}
        for budget in self.budgets[1:]:
            yield {**dict.fromkeys(self._bits(), W8A8), "drop": 0, "keep": ALL, "budget": budget}

    def _bits(self) -> list[str]:
        return [f"{kind} {run}" for run in range(self.runs) for kind in KINDS]


def search(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`trials`, `runs` of blocks, `most_dropped`, `least_width`, `group`, `calibration` and `text`: to look at, and to
    foretell; `context` in tokens, or None. Raises JobFailed.
    """
    source = dense(Path(settings["source"]))
    space = Space.of(source, settings)
    laboratory = _laboratory(source, settings, space, work, on_step)
    cost_bytes = laboratory.size_bytes if laboratory.context is None else laboratory.step_bytes
    study = _study(work, int(settings["seed"]))
    for params in space.first() if not study.trials else ():
        study.enqueue_trial(params)
    total = int(settings["trials"])

    def objective(trial: optuna.trial.Trial) -> tuple[float, float]:
        space.suggest(trial)
        build = space.build(trial.params)
        cost, value = cost_bytes(build), laboratory.perplexity(build)
        on_step(Step(f"{cost / 1e6:.0f} MB, perplexity {value:.2f}", trial.number + 1, total))
        return float(cost), value

    study.optimize(objective, n_trials=max(0, total - len(_done(study))))
    first = {_key(trial): trial.number for trial in reversed(_done(study))}  # the sampler may try a build again
    front = {trial.number for trial in study.best_trials if first[_key(trial)] == trial.number}
    found = [_row(trial, laboratory, space, trial.number in front) for trial in _done(study)]
    work.drop()
    return {"trials": found, "influences": list(laboratory.influence), "context_tokens": laboratory.context}


def _budgets(source: Checkpoint, context: int | None) -> list[int | None]:
    """None, and the budgets that a row would heed at the end of *context* tokens. Raises JobFailed."""
    if context is None:
        return [None]
    most = source.config.get("max_position_embeddings")
    if most is not None and context > most:
        raise JobFailed(f"--context {context}: the model was made for {most} tokens; name so many or fewer")
    heeded = [tokens for tokens in BUDGETS if Budget(tokens).threshold_tokens <= context]
    if not heeded:
        least = Budget(BUDGETS[0]).threshold_tokens
        raise JobFailed(
            f"--context {context}: a context below {least} tokens is read whole whatever the budget; name {least} or "
            "more, or leave --context away"
        )
    return [None, *heeded]


def _laboratory(
    source: Checkpoint, settings: Mapping[str, Any], space: Space, work: Work, on_step: OnStep
) -> Laboratory:
    tokenizer, context = tokenizer_of(source), settings["context"]
    ids = windows(tokenizer, [settings["text"]], context or WINDOW_TOKENS, 1 if context else FORETOLD_WINDOWS)
    calibration = windows(tokenizer, [settings["calibration"]], WINDOW_TOKENS, MOST_WINDOWS)  # as `prune` looks
    if not ids.numel() or not calibration.numel():
        raise JobFailed("a text to look at is empty; name one of a page or more")
    if context and ids.shape[1] < context:
        raise JobFailed(
            f"--context {context}: the text to foretell, the second half of the one that is named, has {ids.shape[1]} "
            f"tokens; name one of {2 * context} tokens or more with --calibration"
        )
    model = model_of(source)

    def looked(name: str, look: Any) -> Any:
        if (shown := work.kept(name)) is None:
            shown = look(model, calibration, on_step)
            work.keep(name, shown)
        return shown

    influence = looked(INFLUENCES, influences)
    matters = looked(IMPORTANCES, importances) if len(space.widths) > 1 else ()
    return Laboratory(model, ids, space.runs, int(settings["group"]), influence, matters, context)


def _study(work: Work, seed: int) -> optuna.study.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(work.path(JOURNAL))))
    return optuna.create_study(
        study_name="front",
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
        storage=storage,
        load_if_exists=True,
    )


def _done(study: optuna.study.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.state is optuna.trial.TrialState.COMPLETE]


def _key(trial: optuna.trial.FrozenTrial) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(trial.params.items()))


def _row(trial: optuna.trial.FrozenTrial, laboratory: Laboratory, space: Space, on_front: bool) -> dict[str, Any]:
    build = space.build(trial.params)
    return {
        "number": trial.number,
        "size_bytes": laboratory.size_bytes(build),
        "step_bytes": None if laboratory.context is None else laboratory.step_bytes(build),
        "perplexity": trial.values[1],
        "drop": build.drop,
        "keep": trial.params["keep"],
        "channels": space.widths[trial.params["keep"]],
        "budget_tokens": build.budget_tokens,
        "bits": dict(build.bits),
        "on_front": on_front,
        "rules": laboratory.rules(build) if on_front else None,
    }
