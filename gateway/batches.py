"""Batches, a row each in the ledger's database, and the ways their status may go. Blocking; runs nothing."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Engine, Row, insert, select, update

from gateway.ledger.tables import batches
from gateway.pages import in_utc, page_of, unix

OPEN_LIMIT = 1_000  # batches looked at in one go; the later ones wait


class Status(StrEnum):
    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


OPEN = (Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING)  # something is left to do
BEFORE: Mapping[Status, tuple[Status, ...]] = {
    Status.IN_PROGRESS: (Status.VALIDATING,),
    Status.FINALIZING: (Status.IN_PROGRESS,),
    Status.COMPLETED: (Status.FINALIZING,),
    Status.EXPIRED: (Status.FINALIZING,),
    Status.CANCELLING: (Status.VALIDATING, Status.IN_PROGRESS),
    Status.CANCELLED: (Status.CANCELLING,),
    Status.FAILED: OPEN,
}


@dataclass(frozen=True, slots=True)
class Counts:
    total: int
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an input is not valid; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    id: str
    caller: str
    endpoint: str
    window: str
    input_file: str
    status: Status
    counts: Counts
    created_at: datetime
    expires_at: datetime
    times: Mapping[str, datetime | None]  # of each status that has one, `in_progress_at`, ...
    output_file: str | None = None
    error_file: str | None = None
    metadata: dict[str, str] | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def cancelling(self) -> bool:
        return self.times["cancelling_at"] is not None

    def document(self) -> dict[str, Any]:
        """OpenAI's batch object."""
        problems = [{"code": p.code, "message": p.message, "param": p.param, "line": p.line} for p in self.problems]
        counts = self.counts
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": problems} if problems else None,
            "input_file_id": self.input_file,
            "completion_window": self.window,
            "status": self.status.value,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "created_at": unix(self.created_at),
            "expires_at": unix(self.expires_at),
            **{name: unix(moment) for name, moment in self.times.items()},
            "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
            "metadata": self.metadata,
        }


TIMES = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at")


@dataclass(frozen=True, slots=True)
class BatchPage:
    batches: list[Batch]
    has_more: bool


class BatchStore:
    """Call from a thread. A status changes from one that may precede it, or not at all: the database decides races."""

    def __init__(self, database: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, caller: str, *, endpoint: str, window: str, input_file: str, metadata: dict[str, str] | None
    ) -> Batch:
        now = self._clock()
        id = f"batch_{secrets.token_hex(12)}"
        row = {
            "id": id,
            "caller": caller,
            "created_at": now,
            "expires_at": now + timedelta(hours=int(window.removesuffix("h"))),
            "endpoint": endpoint,
            "completion_window": window,
            "input_file": input_file,
            "status": Status.VALIDATING.value,
            "total_requests": 0,
            "completed_requests": 0,
            "failed_requests": 0,
            "metadata": None if metadata is None else orjson.dumps(metadata).decode(),
        }
        with self._database.begin() as connection:
            connection.execute(insert(batches).values(row))
        return self.get(id)

    def get(self, id: str) -> Batch:
        with self._database.connect() as connection:
            return _batch(connection.execute(select(batches).where(batches.c.id == id)).one())

    def find(self, id: str, caller: str) -> Batch | None:
        mine = select(batches).where(batches.c.id == id, batches.c.caller == caller)
        with self._database.connect() as connection:
            row = connection.execute(mine).one_or_none()
        return None if row is None else _batch(row)

    def page(self, caller: str, *, after: str | None, limit: int) -> BatchPage:
        """The newest first. Raises NoSuchPlace."""
        with self._database.connect() as connection:
            found = page_of(connection, batches, caller, after=after, limit=limit)
        return BatchPage([_batch(row) for row in found.rows], found.has_more)

    def open(self) -> list[Batch]:
        """Those that are not at their end, the oldest first."""
        wanted = select(batches).where(batches.c.status.in_(OPEN)).order_by(batches.c.created_at).limit(OPEN_LIMIT)
        with self._database.connect() as connection:
            return [_batch(row) for row in connection.execute(wanted)]

    def is_reading(self, file: str) -> bool:
        """Whether a batch still needs this input."""
        wanted = select(batches.c.id).where(batches.c.input_file == file, batches.c.status.in_(OPEN)).limit(1)
        with self._database.connect() as connection:
            return connection.execute(wanted).one_or_none() is not None

    def advance(
        self,
        id: str,
        status: Status,
        *,
        counts: Counts | None = None,
        output_file: str | None = None,
        error_file: str | None = None,
        problems: Iterable[Problem] = (),
    ) -> bool:
        """False when the batch has meanwhile gone where *status* cannot follow."""
        values: dict[str, Any] = {"status": status.value, f"{status.value}_at": self._clock()}
        if counts is not None:
            values.update(_columns(counts))
        if output_file or error_file:
            values.update(output_file=output_file, error_file=error_file)
        if problems := tuple(problems):
            written = [[p.code, p.message, p.line, p.param] for p in problems]
            values["errors"] = orjson.dumps(written).decode()
        may = update(batches).where(batches.c.id == id, batches.c.status.in_(BEFORE[status]))
        with self._database.begin() as connection:
            return connection.execute(may.values(values)).rowcount == 1

    def count(self, id: str, counts: Counts) -> None:
        """So far."""
        with self._database.begin() as connection:
            connection.execute(update(batches).where(batches.c.id == id).values(_columns(counts)))


def _columns(counts: Counts) -> dict[str, int]:
    return {
        "total_requests": counts.total,
        "completed_requests": counts.completed,
        "failed_requests": counts.failed,
    }


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=row.id,
        caller=row.caller,
        endpoint=row.endpoint,
        window=row.completion_window,
        input_file=row.input_file,
        status=Status(row.status),
        counts=Counts(row.total_requests, row.completed_requests, row.failed_requests),
        created_at=in_utc(row.created_at),
        expires_at=in_utc(row.expires_at),
        times={name: getattr(row, name) for name in TIMES},
        output_file=row.output_file,
        error_file=row.error_file,
        metadata=None if row.metadata is None else orjson.loads(row.metadata),
        problems=tuple(Problem(*written) for written in orjson.loads(row.errors or "[]")),
    )
