"""Several processes on one database: together they never spend more than the cap, whoever of them is killed."""

import asyncio
import subprocess
import sys

import pytest
from sqlalchemy import Engine, event

from gateway.limits.claim import HOLD_SECONDS, Refused, Unit, Unreachable
from gateway.limits.database import DatabaseStore
from tests.gateway.limits.benches import DatabaseBench, answers, money
from tests.gateway.limits.spender import CAP

pytestmark = pytest.mark.anyio

PROCESSES = 4
PATIENCE_SECONDS = 60


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(f"{request.param}_database")
    return found


def run_spenders(database: Engine, *crashes: bool) -> list[list[int]]:
    """What each process printed; nothing of one that was killed."""
    url = database.url.render_as_string(hide_password=False)
    commands = [
        [sys.executable, "-m", "tests.gateway.limits.spender", url, str(seed), "crash" if crash else "settle"]
        for seed, crash in enumerate(crashes)
    ]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    said = [process.communicate(timeout=PATIENCE_SECONDS) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), said
    return [[int(word) for word in out.split()] for out, _ in said]


async def test_processes_together_settle_to_what_they_used_and_never_over_the_cap(database: Engine) -> None:
    bench = DatabaseBench(database)
    said = await asyncio.to_thread(run_spenders, database, *[False] * PROCESSES)
    settled = sum(spent for spent, _ in said)
    assert await bench.used(money(1, CAP)) == settled <= CAP
    assert sum(refused for _, refused in said) > 0, "the cap was met"
    assert await bench.used(answers(1)) == await bench.open() == 0
    await bench.close()


async def test_what_killed_processes_held_counts_until_it_expires(database: Engine) -> None:
    bench = DatabaseBench(database)
    said = await asyncio.to_thread(run_spenders, database, True, True, False, False)
    settled = sum(line[0] for line in said if line)
    held = await bench.used(money(1, CAP))
    assert settled <= held <= CAP
    assert await bench.open() > 0, "somebody was killed while holding"
    await bench.advance(HOLD_SECONDS * 1000)
    made = await DatabaseStore(database).reserve([money(1, CAP), answers(1)])
    assert await bench.used(answers(1)) == await bench.open() == 1
    await bench.store.settle(made, {Unit.NANO_USD: 0})
    assert settled <= await bench.used(money(1, CAP)) <= held, "what killed processes settled before stays spent"
    await bench.close()


async def test_a_database_that_does_not_answer_refuses_rather_than_guesses(sqlite_database: Engine) -> None:
    store = DatabaseStore(sqlite_database)
    held = await store.reserve([money(1, 10)])
    broken = True

    def fail(*_: object) -> None:
        if broken:
            raise sqlite_database.dialect.loaded_dbapi.OperationalError("disk I/O error")

    event.listen(sqlite_database, "before_cursor_execute", fail)
    with pytest.raises(Unreachable):
        await store.reserve([money(1, 10)])
    await store.settle(held, {Unit.NANO_USD: 3})
    broken = False
    assert (await store.reserve([money(1, 10)])).left == (8,)
    await store.close()
    assert await DatabaseBench(sqlite_database).used(money(1, 10)) == 4, "settled when the database was back"
    with pytest.raises(Refused):
        await store.reserve([money(9, 10)])
