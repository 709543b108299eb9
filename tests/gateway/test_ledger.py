"""The ledger: one charge per request, whatever happens to the request, the disk or the process."""

import asyncio
import os
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, inspect, select, text
from structlog.testing import capture_logs

from gateway.ledger import store
from gateway.ledger.charge import Charge, Outcome, nano_usd
from gateway.ledger.database import DatabaseError, newest_revision, open_database
from gateway.ledger.rows import named, row_of
from gateway.ledger.store import Ledger
from gateway.ledger.tables import charges, metadata
from models.engine import Call, EngineUnavailable
from models.scripted import Say, Script, Step, Wait
from tests.gateway.wire import CHAT, OpenRig, chat, connection, error_of, request_bytes, until
from tests.rig import Rig

pytestmark = pytest.mark.anyio

CHARGE = Charge(
    id="req_1",
    at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    outcome=Outcome.OK,
    status=200,
    code=None,
    streamed=False,
    attempts=1,
    total_seconds=0.5,
)
WIDE_CATALOG = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 9, parallel: 60, price: {input_usd: 0.1, output_usd: 0.3}}
  - {name: large, engine: scripted, tier: 1, context_tokens: 9, parallel: 60, price: {input_usd: 1, output_usd: 2}}
"""
NANO_USD_PER_TOKEN = {"small": (100, 300), "large": (1000, 2000)}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'new folder' / 'pointsman.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def journal_dir(tmp_path: Path) -> Path:
    return tmp_path / "another folder" / "journal"


@pytest.fixture
async def ledger(database: Engine, journal_dir: Path) -> AsyncIterator[Ledger]:
    opened = Ledger(database, journal_dir)
    yield opened
    opened.close()


# The database.


def test_a_fresh_database_is_what_the_tables_say(database: Engine) -> None:
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        assert connection.execute(text("select version_num from alembic_version")).scalar_one() == newest_revision()
        assert connection.execute(text("pragma journal_mode")).scalar_one() == "wal"


async def test_opening_a_database_again_changes_nothing(database: Engine, ledger: Ledger) -> None:
    ledger.record(CHARGE)
    await ledger.flush()
    again = open_database(str(database.url))
    with again.connect() as connection:
        assert connection.execute(select(charges.c.id)).scalars().all() == ["req_1"]
    again.dispose()


def test_a_database_of_a_newer_pointsman_is_refused(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(DatabaseError, match="no newer Pointsman has written it"):
        open_database(str(database.url))


@pytest.mark.parametrize(
    "url",
    [
        "pointsman.db",
        "sqlite",
        "nosuch://host/name",
        "sqlite+nosuch:///x.db",
        "postgresql://host:port/name",
        "postgresql+psycopg2://user:secret@host/name",
        "sqlite:////proc/nowhere/x.db",
    ],
)
def test_a_url_that_cannot_work_is_refused_by_the_settings_name_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseError, match="POINTSMAN_DATABASE_URL") as refused:
        open_database(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(DatabaseError, match="file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}")


# Writing.


async def test_every_field_of_a_charge_comes_back_as_it_was_written(database: Engine, ledger: Ledger) -> None:
    full = CHARGE._replace(
        caller="key_1",
        asked="auto",
        template="0123456789abcdef",
        model="large",
        build="0123456789ab",
        basis="safe",
        reason="why",
        prompt_tokens=2**31 - 1,
        completion_tokens=0,
        cached_tokens=3,
        cost_usd=Decimal("1234567.123456789"),
        safe_cost_usd=Decimal(0),
        decide_seconds=1e-6,
        first_chunk_seconds=0.25,
        engine_seconds=0.0,
        reasoning_tokens=2,
        discarded_tokens=9,
        cache="semantic",
        team="team",
        operation="chat",
    )
    ledger.record(full)
    await ledger.flush()
    with database.connect() as connection:
        row = connection.execute(select(charges)).one()._asdict()
    expected = {**named(row_of(full)), "at": full.at.replace(tzinfo=None)}  # SQLite keeps no zone; it is UTC
    assert row == expected
    assert row["cost_nano_usd"] == 1_234_567_123_456_789


async def test_a_charge_that_comes_twice_is_written_once(ledger: Ledger) -> None:
    ledger.record(CHARGE)
    ledger.record(CHARGE)
    await ledger.flush()
    ledger.record(CHARGE)
    await ledger.flush()
    assert ledger.count() == 1


async def test_a_thousand_charges_at_once_are_all_written(ledger: Ledger) -> None:
    for place in range(1000):
        ledger.record(CHARGE._replace(id=f"req_{place}"))
    await ledger.flush()
    assert ledger.count() == 1000
    assert ledger.waiting == 0


async def test_closing_writes_what_waits_and_leaves_no_journal(database: Engine, journal_dir: Path) -> None:
    ledger = Ledger(database, journal_dir)
    for place in range(700):
        ledger.record(CHARGE._replace(id=f"req_{place}"))
    await asyncio.to_thread(ledger.close)
    assert ledger.count() == 700
    assert os.listdir(journal_dir) == []


async def test_a_full_disk_keeps_charges_waiting_until_there_is_room(
    database: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)
    full = True

    def limit(connection: sqlite3.Connection, record: object) -> None:
        if full:
            connection.execute("pragma max_page_count = 1")  # SQLite takes the present size for the least

    event.listen(database, "connect", limit)
    database.dispose()
    with capture_logs() as logs:
        ledger.record(CHARGE._replace(reason="x" * 100_000))
        await until(lambda: bool(logs))
        assert ledger.waiting == 1
    assert "disk is full" in logs[0]["error"]
    full = False
    database.dispose()
    async with asyncio.timeout(2):
        await ledger.flush()
    assert ledger.count() == 1


async def test_a_charge_that_no_database_takes_is_logged_whole_and_holds_up_no_other(ledger: Ledger) -> None:
    """An engine may say anything about its tokens; the writer goes on."""
    with capture_logs() as logs:
        odd = CHARGE._replace(id="req_odd", prompt_tokens=2**64)
        for charge in (CHARGE, CHARGE._replace(id="req_2"), CHARGE._replace(id="req_3"), odd):
            ledger.record(charge)
        ledger.record(CHARGE._replace(id="req_last"))
        async with asyncio.timeout(2):
            await ledger.flush()
    assert ledger.count() == 4
    assert ledger.waiting == 0
    [lost] = logs
    assert (lost["log_level"], lost["id"], lost["prompt_tokens"]) == ("critical", "req_odd", 2**64)


async def test_what_cannot_be_written_at_shutdown_is_written_at_the_next_start(
    database: Engine, journal_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store, "CLOSE_TIMEOUT_SECONDS", 0.05)
    with database.begin() as connection:
        connection.execute(text("alter table charges rename to away"))
    ledger = Ledger(database, journal_dir)
    ledger.record(CHARGE)
    await asyncio.to_thread(ledger.close)
    with database.begin() as connection:
        connection.execute(text("alter table away rename to charges"))
    again = Ledger(database, journal_dir)
    await again.flush()
    assert (again.count(), again.recovered_charges, again.lost_requests) == (1, 1, 0)
    again.close()


async def test_what_neither_database_nor_journal_takes_is_logged_whole_at_shutdown(
    database: Engine, journal_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store, "CLOSE_TIMEOUT_SECONDS", 0.05)
    journal_dir.parent.write_text("where a folder should be")
    with database.begin() as connection:
        connection.execute(text("drop table charges"))
    with capture_logs() as logs:
        ledger = Ledger(database, journal_dir)
        ledger.record(CHARGE._replace(cost_usd=Decimal("0.5")))
        await asyncio.to_thread(ledger.close)
    last = logs[-1]
    assert (last["event"], last["log_level"]) == ("charge not written", "critical")
    expected = {**named(row_of(CHARGE)), "cost_nano_usd": 500_000_000}
    assert {key: last[key] for key in expected} == expected


def test_money_is_kept_in_whole_nano_dollars_and_unknown_is_not_zero() -> None:
    assert nano_usd(None) is None
    assert nano_usd(Decimal(0)) == 0
    assert nano_usd(Decimal("0.0000000005")) == 0  # half goes to the even neighbour
    assert nano_usd(Decimal("0.0000000015")) == 2


# Through the front door.


async def test_a_locked_database_delays_no_client_and_loses_no_charge(rig: OpenRig) -> None:
    async with rig() as r:
        other = sqlite3.connect(r.runtime.settings.data_dir / "pointsman.db", isolation_level=None)
        other.execute("begin exclusive")
        for stream in (False, True):
            assert (await r.http.post(CHAT, json=chat(stream=stream))).status_code == 200
        assert r.runtime.ledger.waiting == 2
        assert "pointsman_ledger_waiting_charges 2.0" in (await r.http.get("/metrics")).text
        other.execute("rollback")
        assert {row["outcome"] for row in await r.charges(2)} == {"ok"}
        other.close()


async def test_no_request_is_taken_when_too_many_charges_wait(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as r:
        monkeypatch.setattr(store, "WAITING_LIMIT", 0)
        response = await r.http.post(CHAT, json=chat())
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert "ledger" in error_of(response)["message"]
        assert (await r.http.get("/v1/models")).status_code == 200, "what costs nothing goes on"
        assert r.engines["large"].calls == []
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"]) == ("failed", 503)


def plays(call: Call) -> Script:
    """What the user's first word asks for, after as many words as the second says."""
    fate, words, *_ = call.body["messages"][0]["content"].split()
    said: list[Step] = [Say("word ")] * int(words)
    ends: dict[str, list[Step]] = {"ok": [], "cut": [EngineUnavailable("x")], "gone": [Wait()]}
    return [EngineUnavailable("x")] if fate == "fails" else said + ends[fate]


async def send(r: Rig, fate: str, place: int, dice: random.Random) -> None:
    words = dice.randrange(1, 6)
    content = f"{fate} {words} " + "x " * dice.randrange(20)
    streamed = dice.random() < 0.5 or fate == "cut"
    body = {
        "model": dice.choice(["auto", "small", "large"]) if fate != "refused" else f"nobody-{place}",
        "messages": [{"role": "user", "content": content}],
        "stream": streamed,
    }
    if fate == "unknown":
        await r.http.post(CHAT, json=body, headers={"authorization": "Bearer pm-wrong"})
    elif fate == "gone":
        async with connection(r, request_bytes(r, body)) as reader:
            if streamed and dice.random() < 0.7:
                await reader.readuntil(b"word ")
            else:
                await asyncio.sleep(dice.random() / 10)
    else:
        await r.http.post(CHAT, json=body)


@pytest.mark.parametrize("seed", [1, 2])
async def test_sixty_requests_of_every_fate_are_sixty_charges_that_agree_with_the_metrics(
    rig: OpenRig, seed: int
) -> None:
    dice = random.Random(seed)
    fates = [fate for fate in ("ok", "fails", "cut", "gone", "refused", "unknown") for _ in range(10)]
    dice.shuffle(fates)
    async with rig(small=plays, large=plays, catalog=WIDE_CATALOG) as r:
        await asyncio.gather(*(send(r, fate, place, dice) for place, fate in enumerate(fates)))
        rows = await r.charges(60)
        outcomes = Counter(row["outcome"] for row in rows)
        assert outcomes == {"ok": 10, "failed": 10, "cut": 10, "gone": 10, "refused": 20}
        assert await r.metric("pointsman_requests_in_flight") == 0
        for model, (input_nano_usd, output_nano_usd) in NANO_USD_PER_TOKEN.items():
            own = [row for row in rows if row["model"] == model]
            for row in own:
                cost = None
                if row["prompt_tokens"] is not None:
                    cost = row["prompt_tokens"] * input_nano_usd + row["completion_tokens"] * output_nano_usd
                assert row["cost_nano_usd"] == cost
            assert await tokens(r, model, "input") == sum(row["prompt_tokens"] or 0 for row in own)
            assert await tokens(r, model, "output") == sum(row["completion_tokens"] or 0 for row in own)
            uncounted = await r.metric("pointsman_uncounted_requests_total", model=model)
            assert uncounted == sum(row["prompt_tokens"] is None for row in own)
            spent = await r.metric("pointsman_cost_usd_total", model=model)
            assert round(spent * 1e9) == sum(row["cost_nano_usd"] or 0 for row in own)
        for outcome, count in outcomes.items():
            names = [*NANO_USD_PER_TOKEN, "none"]
            counted = [await r.metric("pointsman_requests_total", model=m, outcome=outcome) for m in names]
            assert sum(counted) == count


async def tokens(r: Rig, model: str, kind: str) -> float:
    return await r.metric("pointsman_tokens_total", model=model, type=kind)
