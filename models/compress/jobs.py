"""The jobs by name. Each is imported when it is asked for: one may need what another can do without."""

from collections.abc import Callable, Mapping
from typing import Any

from models.compress.job import Settings, Tell
from models.compress.work import Work

Job = Callable[[Settings, Work, Tell], Mapping[str, Any]]


def _distill() -> Job:
    from models.compress.distill import distill

    return distill


def _quantize() -> Job:
    from models.compress.quantize import quantize

    return quantize


def _prune() -> Job:
    from models.compress.prune import prune

    return prune


def _gguf() -> Job:
    from models.compress.as_gguf import as_gguf

    return as_gguf


def _measure() -> Job:
    from models.compress.measure import measure

    return measure


JOBS: dict[str, Callable[[], Job]] = {"distill": _distill, "gguf": _gguf, "measure": _measure, "prune": _prune, "quantize": _quantize}
