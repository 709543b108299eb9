"""Answers of a batch that is not at its end: a file of JSON lines, held by the one process that runs the batch.

An answer is a line from the moment it is there; a killed process loses none of them, a power cut may lose the last.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

FOLDER = "batches"
SUFFIX = ".jsonl"
MODE = 0o600  # what was asked is nobody else's business


@dataclass(slots=True)
class Part:
    """`answered` are the custom ids whose line is whole, `failed` how many of these are errors."""

    path: Path
    answered: set[str]
    failed: int
    _descriptor: int
    _size_bytes: int
    _torn: bool = False

    @classmethod
    def take(cls, data_dir: Path, batch_id: str) -> Self | None:
        """None when another process has it. Raises OSError."""
        path = data_dir / FOLDER / f"{batch_id}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:  # its last holder was done with it
                raise BlockingIOError
            part = cls(path, set(), 0, descriptor, 0)
            part._take_up()
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return part

    def append(self, line: dict[str, Any]) -> None:
        """Raises OSError when the disk does not take it; what is left of it then goes with the next try."""
        written = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if self._torn:
            os.ftruncate(self._descriptor, self._size_bytes)
        self._torn = True
        if os.write(self._descriptor, written) != len(written):
            raise OSError(errno.ENOSPC, "the disk took a part of a line")
        self._torn = False
        self._size_bytes += len(written)
        self._count(line)

    def lines(self) -> Iterator[tuple[bool, bytes]]:
        """Each line, and whether it is an answer rather than an error."""
        with self.path.open("rb") as file:
            for raw in file:
                yield is_answer(orjson.loads(raw)), raw

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)

    def delete(self) -> None:
        """Its lines are somewhere else. Before `close`, so that nobody takes it in between."""
        self.path.unlink(missing_ok=True)

    def _take_up(self) -> None:
        """Count what a process before us has left, and cut off a line that it could not finish."""
        with self.path.open("rb") as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                self._size_bytes += len(raw)
                self._count(orjson.loads(raw))
        os.ftruncate(self._descriptor, self._size_bytes)

    def _count(self, line: dict[str, Any]) -> None:
        self.answered.add(line["custom_id"])
        self.failed += not is_answer(line)


def is_answer(line: dict[str, Any]) -> bool:
    return line["response"] is not None and line["response"]["status_code"] == 200
