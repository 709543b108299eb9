"""Crashes at any write, full disks and takings-up in any order: every charge once, every unended request once."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine, select
from sqlalchemy.pool import StaticPool

from gateway.ledger import journal as journal_module
from gateway.ledger.charge import Outcome
from gateway.ledger.journal import Abandoned
from gateway.ledger.store import Ledger
from gateway.ledger.tables import charges, metadata
from tests.gateway.ledger.test_journal import REAL_WRITE, die
from tests.gateway.test_ledger import CHARGE

PROCESSES = st.integers(0, 2)
TAKEN = st.integers(0, 900)  # bytes of a write that still reach the file: none to all
SEGMENT_BYTES = 600  # a header and one or two rows, so that segments come and go all the time


class Crash(BaseException):
    """The process is no more."""


def crashing(taken: int) -> Callable[[int, bytes], int]:
    def write(descriptor: int, content: bytes) -> int:
        REAL_WRITE(descriptor, content[:taken])
        os.close(descriptor)  # it may be a new file's, which the journal does not have yet
        raise Crash

    return write


def filling(taken: int) -> Callable[[int, bytes], int]:
    def write(descriptor: int, content: bytes) -> int:
        if 0 < taken < len(content):
            return REAL_WRITE(descriptor, content[:taken])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


def refuse(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class Ledgers(RuleBasedStateMachine):
    """Three processes over one database and one folder of journals; one that crashes is another one afterwards.

    The writing thread is not started: what it does is done here, step by step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.database = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(self.database)
        self.ledgers = [self.fresh() for _ in range(3)]
        self.open: list[dict[str, bool]] = [{}, {}, {}]  # by process: id, and whether a line of it is in the journal
        self.bare: list[set[str]] = [set(), set(), set()]  # ended, with no line in the journal
        self.unsure: set[str] = set()  # the process crashed within the write: the end may be in the journal or not
        self.ended: set[str] = set()
        self.lost: set[str] = set()
        self.forgotten: set[str] = set()  # only memory knew of their end, or that they were
        self.count = 0

    def fresh(self) -> Ledger:
        with patch.object(Thread, "start"):
            return Ledger(self.database, Path(self.folder.name))

    def new_id(self) -> str:
        self.count += 1
        return f"req_{self.count}"

    @rule(process=PROCESSES)
    def intend(self, process: int) -> None:
        request_id = self.new_id()
        self.ledgers[process].intend(CHARGE._replace(id=request_id, outcome=Outcome.LOST))
        self.open[process][request_id] = True

    @rule(process=PROCESSES, data=st.data())
    def record(self, process: int, data: st.DataObject) -> None:
        request_id = self.one_of(process, data)
        self.ledgers[process].record(CHARGE._replace(id=request_id))
        self.open[process].pop(request_id, None)
        self.ended.add(request_id)

    @rule(process=PROCESSES, taken=TAKEN, truncates=st.booleans(), data=st.data())
    def record_on_a_full_disk(self, process: int, taken: int, truncates: bool, data: st.DataObject) -> None:
        request_id = self.one_of(process, data)
        with patch.object(os, "write", filling(taken)), no_truncation(truncates):
            self.ledgers[process].record(CHARGE._replace(id=request_id))
        self.open[process].pop(request_id, None)
        self.bare[process].add(request_id)

    @rule(process=PROCESSES, taken=TAKEN)
    def intend_on_a_full_disk(self, process: int, taken: int) -> None:
        request_id = self.new_id()
        with patch.object(os, "write", filling(taken)):
            self.ledgers[process].intend(CHARGE._replace(id=request_id, outcome=Outcome.LOST))
        self.open[process][request_id] = False

    @rule(process=PROCESSES)
    def write_the_database(self, process: int) -> None:
        self.ledgers[process]._write_all()
        self.ended |= self.bare[process]
        self.bare[process].clear()

    @rule(process=PROCESSES)
    def crash(self, process: int) -> None:
        die(self.ledgers[process]._journal)
        self.ledgers[process] = self.fresh()
        for request_id, in_journal in self.open[process].items():
            (self.lost if in_journal else self.forgotten).add(request_id)
        self.forgotten |= self.bare[process]
        self.open[process].clear()
        self.bare[process].clear()

    @rule(process=PROCESSES, taken=TAKEN, data=st.data())
    def crash_while_it_records(self, process: int, taken: int, data: st.DataObject) -> None:
        request_id = self.one_of(process, data)
        with patch.object(os, "write", crashing(taken)), suppress(Crash):
            self.ledgers[process].record(CHARGE._replace(id=request_id))
        begun = self.open[process].pop(request_id, False)
        (self.unsure if begun else self.forgotten).add(request_id)
        self.crash(process)

    @rule(process=PROCESSES, taken=TAKEN)
    def crash_while_it_intends(self, process: int, taken: int) -> None:
        request_id = self.new_id()
        with patch.object(os, "write", crashing(taken)), suppress(Crash):
            self.ledgers[process].intend(CHARGE._replace(id=request_id, outcome=Outcome.LOST))
        self.forgotten.add(request_id)
        self.crash(process)

    @rule(process=PROCESSES)
    def take_up(self, process: int) -> None:
        self.ledgers[process]._recover()

    @rule(process=PROCESSES, statements=st.integers(0, 3))
    def crash_while_it_takes_up(self, process: int, statements: int) -> None:
        """Before one of its statements; or, when there are fewer, before the file is gone."""
        ledger, left = self.ledgers[process], [statements]
        insert = ledger._insert

        def insert_until_dead(rows: list[object]) -> int:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return insert(rows)  # type: ignore[arg-type]  # rows as they came

        def finish_unless_dead(segment: Abandoned) -> None:
            if left[0] > 0:
                raise Crash
            finish(segment)

        finish = Abandoned.finish
        dying = (
            patch.object(ledger, "_insert", insert_until_dead),
            patch.object(Abandoned, "finish", finish_unless_dead),
        )
        with dying[0], dying[1], suppress(Crash):
            ledger._recover()
        self.crash(process)

    def one_of(self, process: int, data: st.DataObject) -> str:
        """A request of this process that is open, or one that ends without an engine's having been called."""
        return data.draw(st.sampled_from([*self.open[process], self.new_id()]))

    @invariant()
    def no_charge_is_doubled_and_none_changes_to_lost(self) -> None:
        with self.database.connect() as connection:
            rows = connection.execute(select(charges.c.id, charges.c.outcome)).all()
        assert len({row.id for row in rows}) == len(rows)
        running = {request_id for process in self.open for request_id in process}
        assert running.isdisjoint(row.id for row in rows), "nobody declares a living process's request lost"

    def teardown(self) -> None:
        try:
            for process in range(3):
                self.crash(process)
            self.take_up(0)
            with self.database.connect() as connection:
                found = {row.id: row.outcome for row in connection.execute(select(charges.c.id, charges.c.outcome))}
            assert {request_id for request_id in self.ended if found.get(request_id) != "ok"} == set()
            assert {request_id for request_id in self.lost if found.get(request_id) != "lost"} == set()
            assert {request_id for request_id in self.unsure if request_id not in found} == set()
            assert found.keys() <= self.ended | self.lost | self.unsure | self.forgotten
            assert [name for name in os.listdir(self.folder.name) if name.endswith(".jsonl")] == []
        finally:
            for ledger in self.ledgers:
                die(ledger._journal)
            self.database.dispose()
            self.folder.cleanup()


@contextmanager
def no_truncation(truncates: bool) -> Iterator[None]:
    if truncates:
        yield
    else:
        with patch.object(os, "ftruncate", refuse):
            yield


class TestLedgers(Ledgers.TestCase):  # type: ignore[valid-type,misc]  # hypothesis makes the class
    settings = settings(max_examples=100, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])

    def setUp(self) -> None:
        small = patch.object(journal_module, "SEGMENT_BYTES", SEGMENT_BYTES)
        small.start()
        self.addCleanup(small.stop)
        super().setUp()
