"""Answers kept line by line as they come in, so that a run can be stopped at any moment. Knows no model or prompt."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def read_kept(path: Path, make: Callable[..., T]) -> list[T]:
    """`make(**fields)` of each line; a line that was cut by a crash is left out, so it is run again. Raises OSError."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_bytes().split(b"\n"):  # not splitlines: an answer may hold U+2028
        try:
            kept.append(make(**json.loads(line)))
        except (ValueError, TypeError):  # not JSON, cut within a character, or of other fields
            continue
    return kept


@contextmanager
def appending(path: Path) -> Iterator[Callable[["DataclassInstance"], None]]:
    """What appends one answer to the file, a line that outlives this process at once. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        path.write_bytes(content + b"\n")
    with path.open("a", encoding="utf-8") as out:

        def append(answer: "DataclassInstance") -> None:
            out.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")
            out.flush()

        yield append


async def work_off(items: Iterable[T], work: Callable[[T], Awaitable[None]], parallel: int) -> None:
    """`work(item)` for each of *items*, so many at a time. The first error of any ends the others and is raised."""
    waiting = iter(items)

    async def one_after_the_other() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(one_after_the_other())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
