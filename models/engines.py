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
from models.llamacpp import LlamaCppEngine
from models.scripted import Say, ScriptedEngine
from models.store import ModelStore
from models.upstream import OpenAIUpstream


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What engines share in one process."""

    store: ModelStore
    checkpoints: CheckpointStore
    log_dir: Path
    torch_python: Path | None = None


def _llamacpp(model: Model, around: Surroundings) -> Engine:
    assert model.file is not None
    log_path = around.log_dir / f"{model.name.replace('/', '_')}.log"
    return LlamaCppEngine(model, around.store.path(model.file), log_path=log_path)


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


# What asks a server to count as it goes, by what the catalogue row says of it.
RUNNING_COUNTS: Mapping[str, Mapping[str, object]] = {
    "last": {},
    "vllm": {"stream_options": {"continuous_usage_stats": True}},
    "llamacpp": {"timings_per_token": True},
}


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
}

# Engines that are processes of this machine. Where several processes of ours serve, one of them runs these for all: a
# model is loaded once.
LOCAL_ENGINES = frozenset({"llamacpp"})
