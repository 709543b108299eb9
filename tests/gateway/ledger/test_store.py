"""The writing thread: what waits, what is refused, what dead processes left, on SQLite and on PostgreSQL."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from unittest.mock import patch

import pytest
from sqlalchemy import Engine, event, select
from structlog.testing import capture_logs

from gateway.ledger import store
from gateway.ledger.charge import Charge, Outcome
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.ledger.tables import charges
from tests.gateway.ledger.test_journal import die, taking
from tests.gateway.test_ledger import CHARGE
from tests.gateway.wire import until

pytestmark = pytest.mark.anyio

POSTGRES = shutil.which("postgres")
POSTGRES_USER = "postgres"  # its server refuses to run as root


def numbered(count: int, prefix: str = "req") -> list[Charge]:
    return [CHARGE._replace(id=f"{prefix}_{place}") for place in range(count)]


def outcomes(database: Engine) -> dict[str, str]:
    with database.connect() as connection:
        return {row.id: row.outcome for row in connection.execute(select(charges.c.id, charges.c.outcome))}


def dead(database: Engine, journal_dir: Path, begun: int, ended: int) -> None:
    """What a process leaves that dies when the database has nothing of what it wrote."""
    with patch.object(Thread, "start"):
        ledger = Ledger(database, journal_dir)
    for charge in numbered(begun):
        ledger.intend(charge._replace(outcome=Outcome.LOST))
    for charge in numbered(ended):
        ledger.record(charge)
    die(ledger._journal)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'pointsman.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def journal_dir(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def ledger(database: Engine, journal_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store, "LINGER_SECONDS", 0.001)
    opened = Ledger(database, journal_dir)
    yield opened
    opened.close()


# What cannot be written.


async def test_a_locked_database_makes_charges_wait_in_the_journal_up_to_a_bound_and_loses_none(
    database: Engine, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "WAITING_LIMIT", 100)
    other = sqlite3.connect(tmp_path / "pointsman.db", isolation_level=None)
    other.execute("begin exclusive")
    for place, charge in enumerate(numbered(100)):
        assert ledger.has_room(), place
        ledger.record(charge)
    assert not ledger.has_room()
    ledger.record(CHARGE._replace(id="req_last"))  # one that was being answered when the bound was reached
    assert (ledger.waiting, ledger.journal_errors) == (101, 0)
    other.execute("rollback")
    other.close()
    await ledger.flush()
    assert ledger.has_room()
    assert len(outcomes(database)) == 101


async def test_refusals_without_end_fill_no_memory_while_answers_are_still_kept(
    database: Engine, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "REFUSALS_LIMIT", 10)
    other = sqlite3.connect(tmp_path / "pointsman.db", isolation_level=None)
    other.execute("begin exclusive")
    for charge in numbered(50):
        ledger.record(charge._replace(attempts=0, outcome=Outcome.FAILED))
    ledger.record(CHARGE._replace(id="answered"))
    assert (ledger.waiting, ledger.unkept_refusals) == (11, 40)
    other.execute("rollback")
    other.close()
    await ledger.flush()
    assert outcomes(database) == {**dict.fromkeys(found_ids(0, 10), "failed"), "answered": "ok"}


async def test_a_read_only_database_is_written_when_it_can_be_again(database: Engine, ledger: Ledger) -> None:
    read_only = True

    def limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"pragma query_only = {int(read_only)}")

    event.listen(database, "connect", limit)
    database.dispose()
    with capture_logs() as logs:
        for charge in numbered(10):
            ledger.record(charge)
        await until(lambda: bool(logs))
    assert "readonly database" in logs[0]["error"]
    assert ledger.waiting == 10
    read_only = False
    database.dispose()
    await ledger.flush()
    assert len(outcomes(database)) == 10


async def test_a_journal_that_cannot_be_written_leaves_charges_in_memory_up_to_a_bound_and_loses_none(
    database: Engine, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BARE_LIMIT", 10)
    monkeypatch.setattr(os, "write", taking(3))
    other = sqlite3.connect(tmp_path / "pointsman.db", isolation_level=None)
    other.execute("begin exclusive")
    for charge in numbered(10):
        assert ledger.has_room()
        ledger.intend(charge._replace(outcome=Outcome.LOST))
        ledger.record(charge)
    assert not ledger.has_room()
    assert ledger.journal_errors == 20
    monkeypatch.setattr(os, "write", taking(None))
    other.execute("rollback")
    other.close()
    await ledger.flush()
    assert ledger.has_room()
    assert len(outcomes(database)) == 10
    ledger.record(CHARGE._replace(id="req_last"))
    assert ledger.journal_errors == 20


async def test_a_charge_that_the_journal_takes_again_is_safe_though_its_beginning_was_not(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BARE_LIMIT", 1)
    monkeypatch.setattr(os, "write", taking(0))
    ledger.intend(CHARGE._replace(outcome=Outcome.LOST))
    assert not ledger.has_room()
    monkeypatch.setattr(os, "write", taking(None))
    ledger.record(CHARGE)
    assert ledger.has_room()


# What dead processes left.


async def test_journals_of_dead_processes_are_taken_up_at_start(database: Engine, journal_dir: Path) -> None:
    dead(database, journal_dir, begun=1500, ended=1200)
    ledger = Ledger(database, journal_dir)
    await ledger.flush()
    found = outcomes(database)
    assert {charge.id: found.pop(charge.id) for charge in numbered(1200)} == dict.fromkeys(found_ids(0, 1200), "ok")
    assert found == dict.fromkeys(found_ids(1200, 1500), "lost")
    assert (ledger.recovered_charges, ledger.lost_requests) == (1200, 300)
    ledger.close()
    assert os.listdir(journal_dir) == []


def found_ids(first: int, end: int) -> list[str]:
    return [f"req_{place}" for place in range(first, end)]


async def test_a_process_that_dies_beside_a_living_one_is_noticed(
    database: Engine, journal_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RECOVERY_SECONDS", 0.01)
    ledger = Ledger(database, journal_dir)
    await ledger.flush()
    dead(database, journal_dir, begun=2, ended=1)
    await until(lambda: outcomes(database) == {"req_0": "ok", "req_1": "lost"})
    ledger.close()


async def test_two_that_take_up_the_same_at_once_do_no_harm(database: Engine, journal_dir: Path) -> None:
    for _ in range(3):
        dead(database, journal_dir, begun=400, ended=300)
    ledgers = [Ledger(database, journal_dir) for _ in range(2)]
    await asyncio.gather(*(ledger.flush() for ledger in ledgers))
    assert sum(ledger.recovered_charges for ledger in ledgers) == 300
    assert sum(ledger.lost_requests for ledger in ledgers) == 100
    for ledger in ledgers:
        ledger.close()
    assert os.listdir(journal_dir) == []


async def test_a_journal_waits_for_a_database_that_cannot_be_written(
    database: Engine, journal_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RECOVERY_SECONDS", 0.01)
    dead(database, journal_dir, begun=2, ended=1)
    read_only = True

    def limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"pragma query_only = {int(read_only)}")

    event.listen(database, "connect", limit)
    database.dispose()
    with capture_logs() as logs:
        ledger = Ledger(database, journal_dir)
        await until(lambda: bool(logs))
    assert logs[0]["event"] == "journals of dead processes wait"
    read_only = False
    database.dispose()
    await until(lambda: not os.listdir(journal_dir))
    assert outcomes(database) == {"req_0": "ok", "req_1": "lost"}
    ledger.close()


async def test_what_a_process_believed_dead_still_says_replaces_lost(database: Engine, ledger: Ledger) -> None:
    """Whichever of two lines of a request comes last, that it ended wins."""
    for outcome in (Outcome.LOST, Outcome.CUT, Outcome.LOST, Outcome.OK):
        ledger.record(CHARGE._replace(outcome=outcome))
        await ledger.flush()
    assert outcomes(database) == {"req_1": "cut"}


# PostgreSQL.


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A server of our own on a Unix socket, without durability."""
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    programs = Path(POSTGRES).resolve().parent
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        user = POSTGRES_USER if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(folder, user)
        run: Callable[..., object] = subprocess.run
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "ledger", "-A", "trust", "--no-sync", "-E", "UTF8"]
        run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        settings = f"-c listen_addresses= -c fsync=off -c timezone=Asia/Tokyo -k {folder}"
        control = [programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
        run([*control, "-o", settings, "start"], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql+psycopg://ledger@/postgres?host={folder}"
        finally:
            run([*control, "-m", "immediate", "stop"], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.services
async def test_postgresql_takes_the_same(postgres_url: str, journal_dir: Path) -> None:
    database = open_database(postgres_url)
    dead(database, journal_dir, begun=700, ended=600)
    ledger = Ledger(database, journal_dir)
    for charge in (*numbered(1000, "own"), *numbered(10, "own")):
        ledger.record(charge)
    with capture_logs() as logs:
        ledger.record(CHARGE._replace(id="odd", prompt_tokens=2**70))
        await ledger.flush()
    assert [log["id"] for log in logs if log["log_level"] == "critical"] == ["odd"]
    found = outcomes(database)
    assert (len(found), list(found.values()).count("lost")) == (1700, 100)
    assert (ledger.recovered_charges, ledger.lost_requests) == (600, 100)
    with database.connect() as connection:
        row = connection.execute(select(charges).where(charges.c.id == "own_1")).one()
    assert (row.at, row.streamed, row.total_seconds) == (CHARGE.at, CHARGE.streamed, CHARGE.total_seconds)
    ledger.close()
    assert os.listdir(journal_dir) == []
    database.dispose()
