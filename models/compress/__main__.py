"""The jobs by name, done in the Python that has torch: `models.job` starts `python -m models.compress`.

Each is imported when it is asked for, as one may need what another can do without.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from models.compress.work import Work
from models.job import OnStep, answer

Job = Callable[[Mapping[str, Any], Work, OnStep], Mapping[str, Any]]

JOBS = ("as_gguf", "distill", "measure", "prune", "quantize", "search")


def do(settings: dict[str, Any], on_step: OnStep) -> Mapping[str, Any]:
    """`job`, its `settings`, and `work`: the folder below which an interrupted job's parts are kept."""
    name = settings["job"]
    assert name in JOBS
    job: Job = getattr(import_module(f"models.compress.{name}"), name)
    with Work(Path(settings["work"]), {"job": name, **settings["settings"]}) as work:
        return job(settings["settings"], work, on_step)


if __name__ == "__main__":
    answer(do)
