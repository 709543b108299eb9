"""The table of engines: from a catalogue row to something that can be called. To add one: a file and a line here."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.catalog import Model
from models.checkpoint_store import CheckpointStore
from models.embedder_engine import EmbedderEngine
from models.engine import Engine
from models.litellm import LiteLLMEngine
from models.llamacpp import LlamaCpp
from models.process import ProcessEngine, Program
from models.scripted import Say, ScriptedEngine
from models.store import ModelStore
from models.transformers.program import Transformers
from models.upstream import RUNNING_COUNTS, OpenAIUpstream
from models.vllm.program import Vllm


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What engines share in one process."""

    store: ModelStore
    checkpoints: CheckpointStore
    log_dir: Path
    torch_python: Path | None = None


def _llamacpp(model: Model, around: Surroundings) -> Engine:
    assert model.file is not None
    return _kept(model, LlamaCpp(model, around.store.path(model.file)), around)


def _vllm(model: Model, around: Surroundings) -> Engine:
    return _kept(model, Vllm(model, around.checkpoints, around.torch_python), around)


def _transformers(model: Model, around: Surroundings) -> Engine:
    return _kept(model, Transformers(model, around.checkpoints, around.torch_python), around)


def _kept(model: Model, program: Program, around: Surroundings) -> ProcessEngine:
    return ProcessEngine(model, program, log_path=around.log_dir / f"{model.name.replace('/', '_')}.log")


def _openai(model: Model, around: Surroundings) -> Engine:
    assert model.base_url is not None
    return OpenAIUpstream(
        base_url=model.base_url,
        name=model.name,
        model=model.remote_name,
        api_key=_key(model),
        running_counts=RUNNING_COUNTS[model.counts],
    )


def _litellm(model: Model, around: Surroundings) -> Engine:
    return LiteLLMEngine(name=model.name, model=model.remote_name, base_url=model.base_url, api_key=_key(model))


def _key(model: Model) -> str | None:
    return os.environ.get(model.api_key_env) if model.api_key_env else None


def _scripted(model: Model, around: Surroundings) -> Engine:
    return ScriptedEngine(model.name, lambda call: [Say("This is a scripted answer.")])


def _embedder(model: Model, around: Surroundings) -> Engine:
    return EmbedderEngine(model)


ENGINES: Mapping[str, Callable[[Model, Surroundings], Engine]] = {
    "embedder": _embedder,
    "litellm": _litellm,
    "llamacpp": _llamacpp,
    "openai": _openai,
    "scripted": _scripted,
    "transformers": _transformers,
    "vllm": _vllm,
}

# Engines that are processes of this machine. Where several processes of ours serve, one of them runs these for all: a
# model is loaded once.
LOCAL_ENGINES = frozenset({"llamacpp", "transformers", "vllm"})
