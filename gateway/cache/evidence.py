"""Whether an answer to one prompt may stand for the answer to a prompt like it: counted like a model's outcomes.

A cached answer is a model that answers for nothing, `semantic@0.92`, and has to hold the operator's bar like any other.
What was counted stands in a file of the data folder, a row for each template and threshold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.cache.embedding import CacheError, Embed
from gateway.cache.section import SemanticTemplate
from router.bar import Bar, Tally, Verdict
from router.evidence import tally_of

FILE = "semantic_cache.json"


class Pair(BaseModel):
    """Two prompts of a template, as their varying texts, and whether the answer to `cached` was right for `asked`.

    `fresh_right`: whether a model's own answer to `asked` was; taken to be right where it is not said, which is never
    in the cache's favour.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    cached: str
    right: bool
    fresh_right: bool = True


@dataclass(frozen=True, slots=True)
class Counted:
    """`tally`: of the pairs that are at least as alike as the threshold; `pairs`: how many there were in all."""

    tally: Tally
    pairs: int


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str
    threshold: float
    passed: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=0)]
    lost: Annotated[int, Field(ge=0)]
    won: Annotated[int, Field(ge=0)]
    paired: Annotated[int, Field(ge=0)]

    @property
    def tally(self) -> Tally:
        return Tally(self.passed, self.total, self.lost, self.won, self.paired)


ROWS = TypeAdapter(list[Row])
Tallies = Mapping[tuple[str, float], Tally]


def name_of(threshold: float) -> str:
    """What answers, by the name that a model would have."""
    return f"semantic@{threshold:g}"


def count_pairs(pairs: Iterable[Pair], embed: Embed, threshold: float) -> Counted:
    """What became of the pairs that the cache would have answered."""
    from gateway.cache.neighbours import Neighbours  # numpy, which only an embedder brings along

    neighbours, tally, seen = Neighbours(embed), Tally(), 0
    for pair in pairs:
        seen += 1
        if float(neighbours.vector(pair.asked) @ neighbours.vector(pair.cached)) >= threshold:
            tally += tally_of(pair.right, pair.fresh_right)
    return Counted(tally, seen)


def read_pairs(path: Path) -> list[Pair]:
    """JSON lines. Raises CacheError with the line."""
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                pairs.append(Pair.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise CacheError(f"{path}:{number}: {where + ': ' if where else ''}{first['msg']}") from error
    return pairs


def read_tallies(data_dir: Path) -> Tallies:
    """What was recorded; nothing where nothing was. Raises CacheError."""
    return {(row.template, row.threshold): row.tally for row in _rows(data_dir / FILE)}


def record(data_dir: Path, template: str, threshold: float, tally: Tally) -> Path:
    """Put *tally* in the place of what was recorded for the template and threshold before. Returns the file."""
    path = data_dir / FILE
    others = [row for row in _rows(path) if (row.template, row.threshold) != (template, threshold)]
    counts = {name: getattr(tally, name) for name in ("passed", "total", "lost", "won", "paired")}
    rows = [*others, Row(template=template, threshold=threshold, **counts)]
    rows.sort(key=lambda row: (row.template, row.threshold))
    data_dir.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".new")
    written.write_bytes(orjson.dumps([row.model_dump() for row in rows], option=orjson.OPT_INDENT_2) + b"\n")
    written.replace(path)
    return path


def proved(wanted: Iterable[SemanticTemplate], tallies: Tallies, bar: Bar) -> tuple[dict[str, float], list[str]]:
    """The thresholds of the templates that may be answered so, and for each of the others what is missing."""
    thresholds, missing = {}, []
    for entry in wanted:
        tally = tallies.get((entry.template, entry.threshold))
        shown = bar.judge(tally) if tally is not None else None
        if shown is not None and shown.verdict is Verdict.HOLDS:
            thresholds[entry.template] = entry.threshold
        else:
            says = shown.says if shown is not None else "nothing is recorded"
            missing.append(
                f"{name_of(entry.threshold)} of template {entry.template}: {says}; "
                f"measure it with: pointsman cache evaluate --template {entry.template} --threshold {entry.threshold:g}"
            )
    return thresholds, missing


def _rows(path: Path) -> list[Row]:
    try:
        return ROWS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise CacheError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
