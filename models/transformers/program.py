"""Our server of transformers as a program of `models.process`. Imports neither torch nor transformers."""

import os
from pathlib import Path

from models.catalog import Model
from models.checkpoint import CheckpointError, check
from models.checkpoint_store import CheckpointStore
from models.llamacpp import SPIN_COUNT
from models.process import CannotLaunch, Launch
from models.torch_python import NoTorch, environment, torch_python

MODULES = ("torch", "transformers", "safetensors")


class Transformers:
    """A Program. *python*: the named interpreter that has torch; see `models.torch_python`."""

    name = "transformers"

    def __init__(self, model: Model, store: CheckpointStore, python: Path | None) -> None:
        self._model = model
        self._store = store
        self._python = python

    def launch(self, api_key: str) -> Launch:
        model, numerics = self._model, self._model.numerics
        assert model.checkpoint is not None
        folder = self._store.path(model.checkpoint)
        if not self._store.has(model.checkpoint):
            raise CannotLaunch(f"{folder} is missing; get it with: pointsman models pull {model.name}")
        try:
            facts = check(folder, chats=model.chats)
            needed = MODULES if numerics.quantization is None else (*MODULES, "bitsandbytes")
            python = torch_python(needed, self._python)
        except (NoTorch, CheckpointError) as error:
            raise CannotLaunch(f"{model.name} by transformers: {error}") from error
        if numerics.quantization is not None and facts.method is not None:
            raise CannotLaunch(
                f"{model.name}: numerics.quantization {numerics.quantization}: the checkpoint is quantised already, by "
                f"{facts.method}; remove it"
            )
        threads = model.threads or os.cpu_count() or 1
        settings = {
            "folder": str(folder),
            "model": model.name,
            "api_key": api_key,
            "context_tokens": model.context_tokens,
            "quantization": numerics.quantization,
            "dtype": numerics.dtype,
            "threads": threads,
            "memory_limit_bytes": model.memory_limit_bytes,
        }
        return Launch(
            (str(python), "-P", "-m", "models.transformers.process"),
            settings,
            {**environment(), "GOMP_SPINCOUNT": SPIN_COUNT},
        )

    def remedy(self, error: str) -> str:
        remedy = f"check the weights with: pointsman models verify {self._model.name}"
        if self._model.memory_limit_bytes:
            remedy += f"; or raise its memory_limit_bytes, now {self._model.memory_limit_bytes}"
        return remedy
