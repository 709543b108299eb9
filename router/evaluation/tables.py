"""Tables of outcomes: one row per (prompt, model), in parquet. Reads and checks them; knows nothing of routing.

Columns: `prompt_id`, `benchmark` (taken for the template), `prompt`, `model`, `params_b` (billions of parameters, may
be null), `score` (0 to 1), `prompt_tokens_est`, `completion_tokens_est`; optional: `source`, `answer` (the extracted
final answer), `cost_usd` (what the call cost).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

REQUIRED = ("prompt_id", "benchmark", "prompt", "model", "params_b", "score")
TOKENS = ("prompt_tokens_est", "completion_tokens_est")
OPTIONAL = ("answer", "cost_usd")

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


class TableError(Exception):
    """A table cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeTable:
    """P prompts by M models. What is not known is NaN, for an answer None."""

    name: str
    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    templates: tuple[str, ...]
    models: tuple[str, ...]
    params_b: Floats  # (M,)
    scores: Floats  # (P, M), 0 to 1
    prompt_tokens: Floats  # (P, M)
    completion_tokens: Floats  # (P, M)
    cost_usd: Floats  # (P, M)
    answers: NDArray[np.object_]  # (P, M)

    def column(self, model: str) -> int:
        """Raises TableError."""
        if model not in self.models:
            known = ", ".join(sorted(self.models))
            raise TableError(
                f"{self.name} has no rows of the model {model!r}; add them, or leave the table out. It has: {known}"
            )
        return self.models.index(model)


def read_folder(folder: Path, on_table: Callable[[str], None] = lambda name: None) -> dict[str, OutcomeTable]:
    """Every `*.parquet` of *folder*, by its name without the ending. Raises TableError."""
    if not folder.is_dir():
        raise TableError(f"{folder} is not a folder; name one that holds outcome tables (*.parquet)")
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise TableError(
            f"{folder} holds no *.parquet; the columns of an outcome table are {', '.join(REQUIRED + TOKENS)}"
        )
    tables = {}
    for path in paths:
        on_table(path.stem)
        tables[path.stem] = read_table(path)
    return tables


def read_table(path: Path) -> OutcomeTable:
    """Of two rows for one (prompt, model) the later one counts. Raises TableError."""
    columns = _read(path)
    scores = columns["score"]
    if not np.all((scores >= 0) & (scores <= 1)):
        raise TableError(f"{path}: a score is missing or not between 0 and 1; scale it, or drop the row")
    prompt_ids, prompt_rows, prompt_at = _distinct(columns["prompt_id"])
    models, model_rows, model_at = _distinct(columns["model"])

    def matrix(name: str) -> Floats:
        made = np.full((len(prompt_ids), len(models)), np.nan)
        made[prompt_at, model_at] = columns[name]
        return made

    answers = np.full((len(prompt_ids), len(models)), None, dtype=object)
    answers[prompt_at, model_at] = columns["answer"]
    return OutcomeTable(
        name=path.stem,
        prompt_ids=prompt_ids,
        prompts=tuple(columns["prompt"][prompt_rows]),
        templates=tuple(columns["benchmark"][prompt_rows]),
        models=models,
        params_b=columns["params_b"][model_rows],
        scores=matrix("score"),
        prompt_tokens=matrix("prompt_tokens_est"),
        completion_tokens=matrix("completion_tokens_est"),
        cost_usd=matrix("cost_usd"),
        answers=answers,
    )


def _distinct(values: NDArray[Any]) -> tuple[tuple[str, ...], Places, Places]:
    """The distinct values in order; the row in which each is first; which of them each row has."""
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        first.setdefault(value, row)
    names = sorted(first)
    place = {name: at for at, name in enumerate(names)}
    return tuple(names), np.array([first[name] for name in names]), np.array([place[value] for value in values])


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        there = pq.read_schema(path).names
        missing = [name for name in REQUIRED if name not in there]
        if missing:
            raise TableError(
                f"{path} has no column {missing[0]!r}; an outcome table has {', '.join(REQUIRED + TOKENS)}"
            )
        read = pq.read_table(path, columns=[c for c in REQUIRED + TOKENS + OPTIONAL if c in there])
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{path} cannot be read as parquet: {error}. Write it anew, or take it out of the folder"
        ) from error
    if not read.num_rows:
        raise TableError(f"{path} has no rows; take it out of the folder")
    columns: dict[str, NDArray[Any]] = {}
    for name in ("prompt_id", "benchmark", "prompt", "model"):
        if read[name].null_count:
            raise TableError(f"{path}: {name} is empty in a row; every row needs one")
        columns[name] = _objects([str(value) for value in read[name].to_pylist()])
    for name in ("params_b", "score", *TOKENS, "cost_usd"):
        columns[name] = _numbers(path, name, read[name]) if name in there else np.full(read.num_rows, np.nan)
    answers = read["answer"].to_pylist() if "answer" in there else [None] * read.num_rows
    columns["answer"] = _objects([None if answer is None else str(answer) for answer in answers])
    return columns


def _numbers(path: Path, name: str, column: Any) -> Floats:
    try:
        numbers = column.cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise TableError(f"{path}: the column {name!r} is not of numbers: {error}") from error
    return np.asarray(numbers, dtype=np.float64)


def _objects(values: Sequence[str | None]) -> NDArray[np.object_]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
