"""Counting starts where the ledger is: the charges of this day and this month, by caller, team and template."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, insert

from gateway.keys import Grant, Keys
from gateway.ledger.database import open_database
from gateway.ledger.tables import charges
from gateway.limits.memory import MemoryStore
from gateway.limits.spent import spent
from tests.gateway.limits.benches import money

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest) -> Iterator[Engine]:
    found: Engine = request.getfixturevalue(f"{request.param}_database")
    yield found
    with found.begin() as connection:
        connection.execute(charges.delete())


def charge(
    database: Engine,
    number: int,
    at: datetime,
    cost: int | None,
    caller: str | None,
    template: str | None,
    operation: str | None = None,
) -> None:
    row = {
        "id": f"req_{number}",
        "at": at,
        "outcome": "ok",
        "attempts": 1,
        "streamed": False,
        "total_seconds": 1.0,
        "cost_nano_usd": cost,
        "caller": caller,
        "template": template,
        "operation": operation,
    }
    with database.begin() as connection:
        connection.execute(insert(charges).values(row))


@pytest.mark.anyio
async def test_the_windows_of_now_start_at_what_was_charged_in_them(database: Engine) -> None:
    keys = Keys(database, b"p" * 32)
    one, two = (keys.create(name, Grant(team="search"))[1].id for name in ("ann", "bob"))
    midnight = NOW.replace(hour=0)
    for number, (at, cost, caller, template) in enumerate(
        [
            (NOW, 1, one, "t"),
            (midnight, 2, two, None),
            (midnight - timedelta(microseconds=1), 4, one, "t"),
            (NOW.replace(day=1, hour=0), 8, one, None),
            (NOW.replace(day=1, hour=0) - timedelta(microseconds=1), 16, one, "t"),
            (NOW, None, one, "t"),
            (NOW, 32, None, None),
        ]
    ):
        charge(database, number, at, cost, caller, template)
    found = spent(database, NOW)
    assert found == {
        f"usd:caller:{one}:2026-11-25": 1,
        f"usd:caller:{two}:2026-11-25": 2,
        "usd:team:search:2026-11-25": 3,
        "usd:template:t:2026-11-25": 1,
        f"usd:caller:{one}:2026-11": 13,
        f"usd:caller:{two}:2026-11": 2,
        "usd:team:search:2026-11": 15,
        "usd:template:t:2026-11": 5,
    }
    store = MemoryStore()
    await store.seed(found)
    assert (await store.reserve([money(1, 16, "usd:team:search:2026-11")])).left == (0,)


def test_a_ledger_without_charges_has_spent_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('empty') / 'pointsman.db'}")
    assert spent(database, NOW) == {}
    database.dispose()


def test_shadows_are_their_own_callers_and_not_their_templates(database: Engine) -> None:
    charge(database, 1, NOW, 1, "key_1", "t", "chat")
    charge(database, 2, NOW, 2, "explorer", "t", "shadow")
    charge(database, 3, NOW, 4, "key_1", "t")
    found = {key: amount for key, amount in spent(database, NOW).items() if key.endswith("2026-11-25")}
    assert found == {
        "usd:caller:key_1:2026-11-25": 5,
        "usd:caller:explorer:2026-11-25": 2,
        "usd:template:t:2026-11-25": 5,
    }
