"""The ledger: a charge is in the journal when `record` returns, and in the database a moment later.

One thread writes the database, a batch at a time, and takes up what dead processes left in their journals. The only
place that writes the `charges` table.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import structlog
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from gateway.ledger.charge import Charge, Outcome
from gateway.ledger.journal import Abandoned, Journal, Segment, abandoned
from gateway.ledger.rows import ID, LOST, OUTCOME, Row, named, one_each, row_of, statements
from gateway.ledger.tables import charges

log = structlog.get_logger(__name__)

WAITING_LIMIT = (
    10_000  # charges not yet in the database; beyond it new requests are refused rather than charges dropped
)
REFUSALS_LIMIT = 20_000  # charges waiting, some 20 MB; beyond it refused requests that no engine saw leave none
BARE_LIMIT = 1_000  # of these, with no line in the journal either: what a killed process would lose
BATCH_LIMIT = 512
LINGER_SECONDS = 0.05  # for more charges to come: a transaction costs as much as ten of them
RETRY_SECONDS = 1.0  # a full disk or a locked file; tried until it works
RECOVERY_SECONDS = 60.0  # between looks for journals of processes that died while this one lived
CLOSE_TIMEOUT_SECONDS = 10.0
UNFIT = (DataError, IntegrityError, OverflowError, UnicodeError)  # a value that no database takes, now or later


@dataclass(frozen=True, slots=True)
class _Entry:
    row: Row
    segment: Segment | None  # of the journal


@dataclass(frozen=True, slots=True)
class _Flush:
    recorded: int  # charges that the database shall have
    tell: Callable[[], object]


class Ledger:
    """`intend`, `record` and `flush` from one event loop; none of them blocks for longer than a write to a file."""

    def __init__(self, database: Engine, journal_dir: Path) -> None:
        self._database = database
        self._journal = Journal(journal_dir)
        self._entries: deque[_Entry] = deque()
        self._flushes: deque[_Flush] = deque()
        self._recorded = 0  # counted by the event loop's thread
        self._written = 0  # counted by the writing thread
        self._bare: set[str] = set()  # ids of requests that are in memory alone
        self.recovered_charges = 0  # taken from journals of dead processes; the database did not have them
        self.lost_requests = 0  # found there without an end
        self.unkept_refusals = 0  # requests without a charge: refused when REFUSALS_LIMIT was reached
        self._wake = threading.Event()  # there is something to do
        self._hurry = threading.Event()  # and somebody waits for it
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Charges not yet in the database."""
        return self._recorded - self._written

    @property
    def journal_errors(self) -> int:
        """Lines that the journal could not take."""
        return self._journal.errors

    def has_room(self) -> bool:
        """False when so much waits to be written that no further request may be taken."""
        return self.waiting < WAITING_LIMIT and len(self._bare) < BARE_LIMIT

    def intend(self, charge: Charge) -> None:
        """An engine is about to be called: *charge*, whose outcome is LOST, stands if this process dies now."""
        assert charge.outcome is Outcome.LOST
        self._note(charge.id, in_journal=self._journal.intend(row_of(charge)))

    def record(self, charge: Charge) -> None:
        """*charge* outlives this process when this returns. One that the journal cannot take waits in memory; see
        `has_room`. Raises nothing, and drops nothing that an engine has seen.
        """
        if charge.attempts == 0 and self.waiting >= REFUSALS_LIMIT:
            self.unkept_refusals += 1
            return
        row = row_of(charge)
        segment = self._journal.record(row)
        self._note(charge.id, in_journal=segment is not None)
        self._entries.append(_Entry(row, segment))
        self._recorded += 1  # after it is there: the writing thread goes by this count
        if not self._wake.is_set():
            self._wake.set()

    async def flush(self) -> None:
        """Wait until the database has everything recorded so far, however long that takes."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self._flushes.append(_Flush(self._recorded, lambda: loop.call_soon_threadsafe(done.set)))
        self._hasten()
        await done.wait()

    def close(self) -> None:
        """Write what waits, for at most CLOSE_TIMEOUT_SECONDS. The rest stays in the journal for the next process; what
        is in memory alone is logged whole.
        """
        self._stopping.set()
        self._hasten()
        self._thread.join(CLOSE_TIMEOUT_SECONDS)
        self._giving_up.set()
        self._thread.join()
        if self._entries:
            log.error("charges stay in the journal until the next start", charges=len(self._entries))
        for entry in self._entries:
            if entry.segment is None:
                log.critical("charge not written", **named(entry.row))
        self._journal.close()

    def count(self) -> int:
        with self._database.connect() as connection:
            return connection.execute(select(func.count()).select_from(charges)).scalar_one()

    def _note(self, request_id: str, *, in_journal: bool) -> None:
        if not in_journal:
            self._bare.add(request_id)
        elif self._bare:
            self._bare.discard(request_id)

    def _hasten(self) -> None:
        self._hurry.set()
        self._wake.set()

    # In the writing thread.

    def _work(self) -> None:
        recover_at = monotonic()
        while not self._stopping.is_set():
            if monotonic() >= recover_at:
                self._recover()
                recover_at = monotonic() + RECOVERY_SECONDS
            if self._wake.wait(max(0.0, recover_at - monotonic())):
                self._hurry.wait(LINGER_SECONDS)
                self._hurry.clear()
                self._wake.clear()
                self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        target = self._recorded  # what comes meanwhile makes a batch of its own
        while self._written < target and not self._giving_up.is_set():
            count = min(target - self._written, BATCH_LIMIT)
            self._write([self._entries[place] for place in range(count)])
        self._journal.tidy()
        while self._flushes and self._flushes[0].recorded <= self._written:
            with suppress(RuntimeError):  # the loop of who waited is closed
                self._flushes.popleft().tell()

    def _write(self, entries: Sequence[_Entry]) -> None:
        """Write the first of the entries that wait, and strike them off."""
        try:
            self._insert([entry.row for entry in entries])
        except SQLAlchemyError as error:  # disk, lock, connection, schema: somebody mends it
            log.error("ledger cannot be written", error=str(error).splitlines()[0], waiting=self.waiting)
            self._giving_up.wait(RETRY_SECONDS)
            return
        for entry in entries:
            self._entries.popleft()
            self._bare.discard(entry.row[ID])
            if entry.segment is not None:
                entry.segment.written += 1
        self._written += len(entries)

    def _insert(self, rows: Sequence[Row]) -> int:
        """How many rows changed. Raises SQLAlchemyError; a row that no database takes is logged whole instead."""
        try:
            with self._database.begin() as connection:
                made = statements(one_each(rows), self._database.dialect.name)
                return sum(connection.exec_driver_sql(sql, values).rowcount for sql, values in made)
        except UNFIT as error:  # it may not keep the other charges waiting
            if len(rows) > 1:
                return sum(self._insert([row]) for row in rows)
            log.critical("charge not written", error=repr(error).splitlines()[0], **named(rows[0]))
            return 0

    def _recover(self) -> None:
        try:
            with closing(abandoned(self._journal.folder)) as segments:
                for segment in segments:
                    if self._giving_up.is_set():
                        return  # the next start goes on
                    self._take_up(segment)
        except (SQLAlchemyError, OSError) as error:
            shown = str(error).splitlines()[0]
            log.error("journals of dead processes wait", folder=str(self._journal.folder), error=shown)

    def _take_up(self, segment: Abandoned) -> None:
        rows = one_each(segment.rows)
        ended = [row for row in rows if row[OUTCOME] != LOST]
        lost = [row for row in rows if row[OUTCOME] == LOST]
        recovered, missing = self._insert_all(ended), self._insert_all(lost)
        segment.finish()
        self.recovered_charges += recovered
        self.lost_requests += missing
        log.warning("journal of a dead process taken up", path=str(segment.path), charges=recovered, lost=missing)

    def _insert_all(self, rows: Sequence[Row]) -> int:
        return sum(self._insert(rows[start : start + BATCH_LIMIT]) for start in range(0, len(rows), BATCH_LIMIT))
