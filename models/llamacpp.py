"""llama.cpp as a program of `models.process`: what starts it for a catalogue's row. The process is
`models.llamacpp_process`.
"""

import os
import sys
from pathlib import Path

from models.catalog import Model
from models.process import CannotLaunch, Launch

PROMPT_CACHE_MIB = 512
# How long a thread that waits for the others keeps its core. Libgomp's own 300,000 makes two engines on the same cores
# twenty times slower, none makes one engine a third slower (EXPERIMENTS.md, 5).
SPIN_COUNT = "1000"


class LlamaCpp:
    """A Program. *path*: the GGUF file."""

    name = "llama.cpp"

    def __init__(self, model: Model, path: Path) -> None:
        self._model = model
        self._path = path

    def launch(self, api_key: str) -> Launch:
        if not self._path.is_file():
            raise CannotLaunch(f"{self._path} is missing; fetch it with: pointsman models pull {self._model.name}")
        return Launch(
            # -P: a folder called models where the gateway was started is not ours
            (sys.executable, "-P", "-m", "models.llamacpp_process"),
            self.settings(api_key),
            {"GOMP_SPINCOUNT": SPIN_COUNT},
        )

    def remedy(self, error: str) -> str:
        remedy = f"check the file with: pointsman models verify {self._model.name}"
        if self._model.memory_limit_bytes:
            remedy += f"; or raise its memory_limit_bytes, now {self._model.memory_limit_bytes}"
        return remedy

    def settings(self, api_key: str) -> dict[str, object]:
        """What `models.llamacpp_process` reads; a pure function of the catalogue row but for the key."""
        return {
            "path": str(self._path),
            "model": self._model.name,
            "api_key": api_key,
            "port": 0,  # whichever is free
            "parallel": self._model.parallel,
            "context_tokens": self._model.context_tokens,
            "batch_tokens": self._model.batch_tokens,
            "threads": self._model.threads or os.cpu_count() or 1,
            "prompt_cache_mib": PROMPT_CACHE_MIB,
            "memory_limit_bytes": self._model.memory_limit_bytes,
        }
