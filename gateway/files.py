"""Files that callers keep here: the content in the data directory, a row in the ledger's database. Blocking.

A content lies in `files/` under the file's id, never under a name that a client chose.
"""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Engine, Row, delete, insert, select
from sqlalchemy.exc import IntegrityError

from gateway.ledger.tables import files
from gateway.pages import in_utc, page_of

FOLDER = "files"
ARRIVING_SUFFIX = ".part"
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")  # a client's; OpenAI's list
OUTPUT_PURPOSE = "batch_output"  # of files that we make
NAME_LIMIT_CHARACTERS = 256  # the table's column
ORPHAN_SECONDS = 86_400  # a content without a row is by then no upload that is still running


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    caller: str
    filename: str
    purpose: str
    bytes: int
    created_at: datetime
    path: Path

    def document(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created_at.timestamp()),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": None,
            "status_details": None,
        }


@dataclass(slots=True)
class Arriving:
    """A content on its way to the disk. Ends with `FileStore.keep` or `drop`."""

    path: Path
    size_bytes: int = 0
    _out: BinaryIO = field(init=False)

    def __post_init__(self) -> None:
        self._out = self.path.open("xb", buffering=0)

    def write(self, piece: bytes) -> None:
        """Raises OSError when the disk does not take all of it."""
        rest = memoryview(piece)
        while rest:
            rest = rest[self._out.write(rest) :]
        self.size_bytes += len(piece)

    def close(self) -> None:
        self._out.close()

    def drop(self) -> None:
        """Leave nothing of it. Safe after `FileStore.keep`."""
        self.close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FilePage:
    files: list[StoredFile]
    has_more: bool


class FileStore:
    """Call from a thread. What belongs to another caller is as if it were not there."""

    def __init__(
        self, database: Engine, data_dir: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._data_dir = data_dir
        self._clock = clock

    def begin(self) -> Arriving:
        """Raises OSError."""
        folder = self._data_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return Arriving(folder / f"{secrets.token_hex(16)}{ARRIVING_SUFFIX}")

    def keep(self, arrived: Arriving, caller: str, filename: str, purpose: str, id: str | None = None) -> StoredFile:
        """What has arrived is a file from now on. With an *id*, keeping again what was kept changes nothing.

        Raises OSError.
        """
        arrived.close()
        id = id or f"file-{secrets.token_hex(12)}"
        kept = StoredFile(
            id, caller, _plain(filename), purpose, arrived.size_bytes, self._clock(), self._data_dir / FOLDER / id
        )
        row = {
            "id": id,
            "caller": caller,
            "filename": kept.filename,
            "purpose": purpose,
            "bytes": kept.bytes,
            "created_at": kept.created_at,
            "path": f"{FOLDER}/{id}",
            "status": "processed",
        }
        arrived.path.replace(kept.path)
        try:
            with self._database.begin() as connection:
                connection.execute(insert(files).values(row))
        except IntegrityError:
            found = self.find(id, caller)
            assert found is not None, "nobody else takes our ids"
            return found
        except BaseException:
            kept.path.unlink(missing_ok=True)
            raise
        return kept

    def find(self, id: str, caller: str) -> StoredFile | None:
        with self._database.connect() as connection:
            row = connection.execute(select(files).where(files.c.id == id, files.c.caller == caller)).one_or_none()
        return None if row is None else self._of(row)

    def page(self, caller: str, *, after: str | None, limit: int, descending: bool, purpose: str | None) -> FilePage:
        """Raises NoSuchPlace."""
        equal = {} if purpose is None else {"purpose": purpose}
        with self._database.connect() as connection:
            found = page_of(connection, files, caller, after=after, limit=limit, descending=descending, **equal)
        return FilePage([self._of(row) for row in found.rows], found.has_more)

    def delete(self, id: str, caller: str) -> bool:
        """Whether there was such a file."""
        found = self.find(id, caller)
        if found is None:
            return False
        with self._database.begin() as connection:
            connection.execute(delete(files).where(files.c.id == id, files.c.caller == caller))
        found.path.unlink(missing_ok=True)
        return True

    def sweep(self) -> None:
        """Remove contents that no row names: what dead processes were about to keep or to delete."""
        long_ago = time.time() - ORPHAN_SECONDS
        for path in sorted((self._data_dir / FOLDER).glob("*")):
            try:
                old = path.stat().st_mtime < long_ago
            except FileNotFoundError:
                continue  # another process was faster
            if old and not self._is_named(path.name):
                path.unlink(missing_ok=True)

    def _is_named(self, id: str) -> bool:
        with self._database.connect() as connection:
            return connection.execute(select(files.c.id).where(files.c.id == id)).one_or_none() is not None

    def _of(self, row: Row[Any]) -> StoredFile:
        created_at = in_utc(row.created_at)
        path = self._data_dir / row.path
        return StoredFile(row.id, row.caller, row.filename, row.purpose, row.bytes, created_at, path)


def _plain(filename: str) -> str:
    """As the client calls it, without what a header or a terminal would take for more than a name."""
    shown = "".join(letter if letter.isprintable() else "_" for letter in os.path.basename(filename))
    return shown[:NAME_LIMIT_CHARACTERS] or "file"
