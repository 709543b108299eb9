"""Writes charges: one thread, one transaction per batch. The only place that writes the `charges` table."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import structlog
from sqlalchemy import Engine, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from gateway.ledger.charge import Charge, nano_usd
from gateway.ledger.tables import charges

log = structlog.get_logger(__name__)

WAITING_LIMIT = 10_000  # charges not yet written; beyond it new requests are refused rather than charges dropped
BATCH_LIMIT = 500
RETRY_SECONDS = 1.0  # a full disk or a locked file; tried until it works
CLOSE_TIMEOUT_SECONDS = 10.0
MENDABLE = (OperationalError, InterfaceError, ProgrammingError, PoolTimeoutError)  # disk, lock, connection, schema
_STOP = object()


@dataclass(frozen=True, slots=True)
class _Entry:
    charge: Charge
    written: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Ledger:
    """Open it in a running event loop; `record` from that loop only."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._waiting: queue.Queue[Any] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_until_stopped, name="ledger", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Charges not yet written."""
        return self._waiting.unfinished_tasks  # qsize() forgets the batch that is being tried

    def has_room(self) -> bool:
        """False when so much waits to be written that no further request may be taken."""
        return self.waiting < WAITING_LIMIT

    def record(self, charge: Charge) -> asyncio.Future[None]:
        """Queue *charge*; the future is done when it is in the database. Never blocks, never drops."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.put(_Entry(charge, written, loop))
        return written

    def close(self) -> None:
        """Write what waits, for at most CLOSE_TIMEOUT_SECONDS; what cannot be written is logged whole."""
        self._waiting.put(_STOP)
        self._thread.join(CLOSE_TIMEOUT_SECONDS)
        self._closing.set()
        self._thread.join()

    def count(self) -> int:
        with self._database.connect() as connection:
            return connection.execute(select(func.count()).select_from(charges)).scalar_one()

    def _write_until_stopped(self) -> None:
        stopped = False
        while not stopped:
            batch = [self._waiting.get()]
            while len(batch) < BATCH_LIMIT and not self._waiting.empty():
                batch.append(self._waiting.get())
            entries = [entry for entry in batch if entry is not _STOP]
            stopped = len(entries) < len(batch)
            if entries:
                self._write(entries)

    def _write(self, entries: Sequence[_Entry]) -> None:
        while not self._closing.is_set():
            try:
                self._insert([_row(entry.charge) for entry in entries])
            except MENDABLE as error:
                log.error("ledger cannot be written", error=str(error).splitlines()[0], waiting=self.waiting)
                self._closing.wait(RETRY_SECONDS)
                continue
            except Exception as error:  # a value that no database takes: it may not keep the other charges waiting
                self._write_apart(entries, error)
                return
            self._finish(entries)
            return
        for entry in entries:
            log.critical("charge not written", **_row(entry.charge))

    def _write_apart(self, entries: Sequence[_Entry], error: Exception) -> None:
        """Each charge on its own; the one that caused *error* is logged whole instead."""
        if len(entries) > 1:
            for entry in entries:
                self._write([entry])
            return
        log.critical("charge not written", error=repr(error).splitlines()[0], **_row(entries[0].charge))
        self._finish(entries)

    def _finish(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            self._waiting.task_done()
            entry.loop.call_soon_threadsafe(_done, entry.written)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        dialect = postgresql if self._database.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(charges).on_conflict_do_nothing()  # a batch may be tried twice
        with self._database.begin() as connection:
            connection.execute(statement, rows)


def _done(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)


def _row(charge: Charge) -> dict[str, Any]:
    row = {field.name: getattr(charge, field.name) for field in fields(charge)}
    row["cost_nano_usd"] = nano_usd(row.pop("cost_usd"))
    row["safe_cost_nano_usd"] = nano_usd(row.pop("safe_cost_usd"))
    row["outcome"] = charge.outcome.value
    return row
