"""What an interrupted job has done already, and a result that is whole or not there. No torch.

A work folder is named by the digest of its job: another job, or another source, begins another one.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from models.job import JobFailed

HEX_DIGITS = 16
READABLE = 0o644
KEPT_SECONDS = 14 * 86_400.0
ROOM = 1.1  # a result and its header, over the bytes that are expected


class Work:
    """Parts by name, each written whole by a rename. Used as a context: one process at a time."""

    def __init__(self, root: Path, job: Mapping[str, Any]) -> None:
        told = json.dumps(job, sort_keys=True, default=str).encode()
        self.root, self.folder = root, root / hashlib.sha256(told).hexdigest()[:HEX_DIGITS]

    def __enter__(self) -> Self:
        """Raises JobFailed where another process does the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise JobFailed("another process does the same already; wait for it, or end it and start again") from None
        os.utime(self.folder)
        self._sweep()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # not empty: there is something to go on with
            self.folder.rmdir()
        os.close(self._lock)

    def _sweep(self) -> None:
        """Remove what nobody went on with for weeks."""
        for other in self.root.iterdir():
            if other.is_dir() and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to, which takes the part's name once it is whole."""
        draft = self.path(f"{name}.draft")
        yield draft
        _sync(draft)
        os.replace(draft, self.path(name))

    def keep(self, name: str, value: Any) -> None:
        with self.writing(name) as draft:
            draft.write_text(json.dumps(value), encoding="utf-8")

    def kept(self, name: str) -> Any:
        """None where there is none."""
        return json.loads(self.path(name).read_text(encoding="utf-8")) if self.has(name) else None

    def drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def check_result(result: Path, needed_bytes: int) -> None:
    """Raises JobFailed where the result is there already, or would not fit on its disk."""
    if result.exists():
        raise JobFailed(f"{result} is there already; nothing was written. Name another with --out, or remove it first")
    home = result.resolve().parent
    home.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(home).free
    if free_bytes < needed_bytes * ROOM:
        raise JobFailed(
            f"{home}: {needed_bytes * ROOM / 1e6:,.0f} MB needed, {free_bytes / 1e6:,.0f} MB free; make room, or name "
            "a folder on a larger disk with --out"
        )


@contextlib.contextmanager
def result_folder(result: Path) -> Iterator[Path]:
    """A folder to fill, which becomes *result* in one step at the end, and is removed when something fails."""
    draft = result.resolve().with_name(f".{result.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        for path in sorted(draft.rglob("*")):
            if path.is_file():
                path.chmod(READABLE)  # a tokenizer that comes from the store may not even be written to
                _sync(path)
        os.rename(draft, result.resolve())
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    with open(path, "r+b") as written:
        os.fsync(written.fileno())
