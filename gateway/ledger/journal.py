"""The journal: charges in files that outlive the process, until they are in the database. Knows no database.

A process appends to segments of its own, `PID-RANDOM.jsonl`, and holds a lock on each as long as it lives. The first
line names the columns, each other line is a row. A request has a line before an engine is called, which says that it
was lost, and one when it closes: whoever reads the file after the process has died finds all that it had to say. A
killed process loses nothing; a power cut may lose the last moment, since nothing waits for the disk.
"""

import errno
import fcntl
import os
import secrets
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import structlog

from gateway.ledger.rows import COLUMNS, ID, Row

log = structlog.get_logger(__name__)

SUFFIX = ".jsonl"
UNREADABLE_SUFFIX = ".unreadable"
SEGMENT_BYTES = 4 * 2**20  # some 5,000 requests: what is read again after a crash, in a fraction of a second
POSTPONED_BYTES = SEGMENT_BYTES // 16  # written before a new segment is tried again after one could not be begun
SEGMENT_MODE = 0o600  # who asked for what is nobody else's business
HEADER = orjson.dumps({"columns": COLUMNS}) + b"\n"


@dataclass(slots=True, eq=False)
class Segment:
    """One file. `recorded` belongs to the event loop's thread, `written` to the one that writes the database."""

    path: Path
    descriptor: int
    size_bytes: int
    limit_bytes: int
    torn: bool = False  # it ends within a line
    recorded: int = 0  # charges in this file
    written: int = 0  # of these, in the database

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


@dataclass(slots=True)
class Journal:
    """Appends rows, from one thread; raises nothing: what cannot be written is told by the answer and in `errors`."""

    folder: Path
    errors: int = 0  # rows that could not be written
    _segment: Segment | None = None
    _retired: deque[Segment] = field(default_factory=deque)  # full ones with charges that the database may not have
    _open: dict[str, bytes] = field(default_factory=dict)  # lines of requests that have not closed yet
    _failing: bool = False

    def intend(self, row: Row) -> bool:
        """Write the row of a request that has begun, as it shall stand if it never closes."""
        line = _line(row)
        segment = self._append(line)
        if segment is None or line is None:
            return False
        self._open[row[ID]] = line
        return True

    def record(self, row: Row) -> Segment | None:
        """Write the row of a request that has ended. The segment it is in, None if it is in none."""
        segment = self._append(_line(row))
        self._open.pop(row[ID], None)
        if segment is not None:
            segment.recorded += 1
        return segment

    def tidy(self) -> None:
        """Delete full segments that the database has. From the thread that counts what is written."""
        while self._retired and self._retired[0].written == self._retired[0].recorded:
            self._retired.popleft().delete()

    def close(self) -> None:
        """Leave what the database does not have to the next process, and delete the rest. When no thread writes."""
        self.tidy()
        if self._segment is not None:
            self._retired.append(self._segment)
        if not self._open:
            self.tidy()
        for segment in self._retired:
            os.close(segment.descriptor)
        self._retired.clear()
        self._segment = None

    def _append(self, line: bytes | None) -> Segment | None:
        if line is None:
            self.errors += 1
            return None
        try:
            segment = self._segment
            if segment is None or segment.size_bytes >= segment.limit_bytes:
                segment = self._turn_over()
            _write(segment, line)
        except OSError as error:
            self._mend(error)
            return None
        if self._failing:
            self._failing = False
            log.info("journal can be written again", folder=str(self.folder))
        return segment

    def _turn_over(self) -> Segment:
        """A new segment, which begins with what is still open, so that the old one can go. Raises OSError."""
        old = self._segment
        try:
            self._segment = _begin_segment(self.folder, b"".join(tuple(self._open.values())))
        except OSError as error:
            if old is None:
                raise
            log.warning("journal goes on in a full segment", path=str(old.path), error=str(error))
            old.limit_bytes = old.size_bytes + POSTPONED_BYTES
            return old
        if old is not None:
            self._retired.append(old)
        return self._segment

    def _mend(self, error: OSError) -> None:
        """Cut off what a failed write left, or keep the next line apart from it."""
        self.errors += 1
        if not self._failing:
            self._failing = True
            log.error("journal cannot be written", folder=str(self.folder), error=str(error))
        if self._segment is not None:
            try:
                os.ftruncate(self._segment.descriptor, self._segment.size_bytes)
            except OSError:
                self._segment.torn = True
                # What is torn stays, so a later cut has to begin behind it.
                self._segment.size_bytes = os.fstat(self._segment.descriptor).st_size


def _line(row: Row) -> bytes | None:
    """None for a value that JSON cannot say; the database may."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return None


def _write(segment: Segment, line: bytes) -> None:
    if segment.torn:
        line = b"\n" + line
    written = os.write(segment.descriptor, line)
    if written != len(line):
        raise OSError(errno.ENOSPC, "the disk took a part of a line")
    segment.size_bytes += written
    segment.torn = False


def _begin_segment(folder: Path, carried: bytes) -> Segment:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, SEGMENT_MODE)
    segment = Segment(path, descriptor, 0, SEGMENT_BYTES + len(carried))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:
            raise OSError(errno.EAGAIN, "the journal's new file was taken for a dead process's")
        _write(segment, HEADER + carried)
    except OSError:
        segment.delete()
        raise
    return segment


# What dead processes left.


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A dead process's segment, locked by us as long as `abandoned` stands at it."""

    path: Path
    rows: tuple[Row, ...]
    unreadable: int  # lines, without one that was cut at the end

    def finish(self) -> None:
        """The database has its rows: it can go. Lines that cannot be read are kept for the operator."""
        if self.unreadable:
            self.path.rename(self.path.with_suffix(UNREADABLE_SUFFIX))
        else:
            self.path.unlink()


def abandoned(folder: Path) -> Generator[Abandoned, None, None]:
    """Each segment whose process has died, while nobody else can get it. Close it. Raises OSError."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            file = path.open("r+b")  # NFS locks only what may be written
        except FileNotFoundError:
            continue  # another process was faster
        with file:
            if _is_free(file.fileno()):
                yield _parse(path, file.read())


def _is_free(descriptor: int) -> bool:
    """Lock it; False when it is somebody's, or was and is done."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def _parse(path: Path, content: bytes) -> Abandoned:
    complete, _, cut = content.rpartition(b"\n")
    header, *lines = complete.split(b"\n")
    columns = _columns(header)
    found = [_row(line, columns) for line in lines if line]
    rows = [row for row in found if row is not None]
    unreadable = len(found) - len(rows) + (bool(lines) and not columns)
    if unreadable:
        log.error("journal has lines that cannot be read; it is kept", path=str(path), lines=unreadable)
    if cut and (last := _row(cut, columns)) is not None:
        rows.append(last)
    elif cut:
        log.warning("journal ends within a line: its process died while it wrote", path=str(path))
    return Abandoned(path, tuple(rows), unreadable)


def _columns(header: bytes) -> tuple[str, ...]:
    """Of the process that wrote it, which may have been an older Pointsman; empty when it cannot be read."""
    with suppress(orjson.JSONDecodeError, TypeError, KeyError):
        return tuple(orjson.loads(header)["columns"])
    return ()


def _row(line: bytes, columns: tuple[str, ...]) -> Row | None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(values, list) or len(values) != len(columns):
        return None
    if columns != COLUMNS:
        known = dict(zip(columns, values, strict=True))
        values = [known.get(name) for name in COLUMNS]
    return values if isinstance(values[ID], str) else None
