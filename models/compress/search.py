"""Which layers can do with fewer bits, and which blocks can go: the front of size against quality, by Optuna.

Layers are chosen for in groups, a run of blocks and a kind (attention, feed-forward) each, since a trial per layer
would take thousands. A trial rounds weights to the nearest in memory and foretells a text; nothing is written before
the end. Its trials are kept as they come, so an interrupted search goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages.journal import JournalFileBackend

from models.compress.checkpoint import Checkpoint, dense
from models.compress.loading import STORED, blocks_of, linears_of, model_of, tokenizer_of, windows
from models.compress.measure import perplexity
from models.compress.prune import influences
from models.compress.rounding import Rounded, rounded
from models.compress.schemes import KEPT, W4A16, W8A8
from models.compress.work import Work
from models.job import JobFailed, OnStep, Step

KINDS = ("self_attn", "mlp")
CHOICES = (W4A16, W8A8, KEPT)
TOKENS, MOST_WINDOWS = 256, 4  # of the text that a trial foretells
CALIBRATION_WINDOWS = 4
JOURNAL, INFLUENCES = "trials.journal", "influences.json"


@dataclass(frozen=True, slots=True)
class Build:
    """What a trial tries: bits by run of blocks and kind, and how many blocks are left out."""

    bits: Mapping[str, int]
    drop: int = 0

    @classmethod
    def suggested(cls, trial: optuna.trial.Trial, runs: int, most_dropped: int) -> "Build":
        names = [f"{kind} {run}" for run in range(runs) for kind in KINDS]
        bits = {name: int(trial.suggest_categorical(name, CHOICES)) for name in names}
        return cls(bits, trial.suggest_int("drop", 0, most_dropped) if most_dropped else 0)


@dataclass
class Laboratory:
    """A model whose weights are replaced for each trial. Of each matrix its roundings are computed once."""

    model: Any
    ids: torch.Tensor
    runs: int
    group: int
    influence: Sequence[float]
    _whole: dict[str, torch.Tensor] = field(default_factory=dict)
    _rounded: dict[tuple[str, int], Rounded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._blocks = list(blocks_of(self.model))
        for place, block in enumerate(self._blocks):
            for name, linear in linears_of(block):
                self._whole[f"{place}.{name}"] = linear.weight.detach().to(STORED)

    def tried(self, build: Build) -> tuple[int, float]:
        """Bytes of the matrices, and the perplexity."""
        kept, size_bits = self.kept(build.drop), 0.0
        for place in kept:
            for name, linear in linears_of(self._blocks[place]):
                bits = self.bits_of(build, place, name)
                linear.weight.data.copy_(self._weight(f"{place}.{name}", bits))
                rows, inputs = linear.weight.shape
                scales = {W4A16: inputs / self.group * 16, W8A8: 32, KEPT: 0}[bits]
                size_bits += rows * (inputs * bits + scales)
        self.model.model.layers = torch.nn.ModuleList([self._blocks[place] for place in kept])
        self.model.config.num_hidden_layers = len(kept)
        return round(size_bits / 8), exp(perplexity(self.model, self.ids))

    def kept(self, drop: int) -> list[int]:
        """The blocks that stay, without the *drop* that change least what flows through them."""
        gone = sorted(range(len(self._blocks)), key=lambda place: self.influence[place])[:drop]
        return [place for place in range(len(self._blocks)) if place not in gone]

    def bits_of(self, build: Build, place: int, name: str) -> int:
        run = place * self.runs // len(self._blocks)
        return build.bits[f"{name.partition('.')[0]} {run}"]

    def rules(self, build: Build) -> dict[str, int]:
        """As `quantize` takes them, for the checkpoint once its blocks are dropped and numbered anew."""
        kept = self.kept(build.drop)
        return {
            f"model.layers.{new}.{kind}.*": self.bits_of(build, place, kind)
            for new, place in enumerate(kept)
            for kind in KINDS
        }

    def _weight(self, name: str, bits: int) -> torch.Tensor:
        whole = self._whole[name]
        if bits == KEPT:
            return whole
        if (name, bits) not in self._rounded:
            group = self.group if bits == W4A16 else None
            self._rounded[name, bits] = rounded(whole.float(), bits, group, STORED if group else torch.float32)
        return self._rounded[name, bits].dense


def search(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`trials`, `runs` of blocks, `most_dropped`, `group`, `calibration` and `text`: to look at, and to foretell."""
    source = dense(Path(settings["source"]))
    runs = min(int(settings["runs"]), source.blocks)
    most_dropped = min(int(settings["most_dropped"]), source.blocks - 2)
    laboratory = _laboratory(source, settings, runs, work, on_step)
    study = _study(work, int(settings["seed"]))
    for bits in CHOICES if not study.trials else ():  # what everybody would try first
        study.enqueue_trial({f"{kind} {run}": bits for run in range(runs) for kind in KINDS} | {"drop": 0})
    total = int(settings["trials"])

    def objective(trial: optuna.trial.Trial) -> tuple[float, float]:
        size_bytes, value = laboratory.tried(Build.suggested(trial, runs, most_dropped))
        on_step(Step(f"{size_bytes / 1e6:.0f} MB, perplexity {value:.2f}", trial.number + 1, total))
        return float(size_bytes), value

    study.optimize(objective, n_trials=max(0, total - len(_done(study))))
    first = {_key(trial): trial.number for trial in reversed(_done(study))}  # the sampler may try a build again
    front = {trial.number for trial in study.best_trials if first[_key(trial)] == trial.number}
    found = [_row(trial, laboratory, runs, trial.number in front) for trial in _done(study)]
    work.drop()
    return {"trials": found, "influences": list(laboratory.influence)}


def _laboratory(source: Checkpoint, settings: Mapping[str, Any], runs: int, work: Work, on_step: OnStep) -> Laboratory:
    tokenizer, model = tokenizer_of(source), model_of(source)
    ids = windows(tokenizer, [settings["text"]], TOKENS, MOST_WINDOWS)
    calibration = windows(tokenizer, [settings["calibration"]], TOKENS, CALIBRATION_WINDOWS)
    if not ids.numel() or not calibration.numel():
        raise JobFailed("a text to look at is empty; name one of a page or more")
    shown = work.kept(INFLUENCES)
    if shown is None:
        shown = influences(model, calibration, on_step)
        work.keep(INFLUENCES, shown)
    return Laboratory(model, ids, runs, int(settings["group"]), shown)


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


def _row(trial: optuna.trial.FrozenTrial, laboratory: Laboratory, runs: int, on_front: bool) -> dict[str, Any]:
    params = dict(trial.params)
    build = Build({name: bits for name, bits in params.items() if name != "drop"}, int(params.get("drop", 0)))
    return {
        "number": trial.number,
        "size_bytes": int(trial.values[0]),
        "perplexity": trial.values[1],
        "drop": build.drop,
        "bits": dict(build.bits),
        "on_front": on_front,
        "rules": laboratory.rules(build) if on_front else None,
    }
