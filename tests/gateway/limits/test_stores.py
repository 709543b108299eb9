"""The store that a setting names, counting from the ledger on."""

import sys

import pytest
from sqlalchemy import Engine

from gateway.limits import redis
from gateway.limits.claim import Refused, Unreachable
from gateway.limits.stores import LimitsError, check_place, open_store
from gateway.limits.window import DAY
from tests.fakes import unused_port
from tests.gateway.limits.benches import money, requests
from tests.gateway.limits.test_spent import NOW, charge

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("place", ["memory", "database", pytest.param("redis", marks=pytest.mark.services)])
async def test_a_store_counts_from_what_the_ledger_has(
    sqlite_database: Engine, place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "DEADLINE_SECONDS", 10.0)
    monkeypatch.setattr("gateway.limits.stores.datetime", AtNow)
    charge(sqlite_database, 1, NOW, 30, "key_1", None)
    store = await open_store(request.getfixturevalue("redis_url") if place == "redis" else place, sqlite_database)
    key = f"usd:caller:key_1:{NOW:{DAY.format}}"
    assert (await store.reserve([money(70, 100, key)])).left == (0,)
    with pytest.raises(Refused):
        await store.reserve([money(1, 100, key)])
    await store.close()


class AtNow:
    @staticmethod
    def now(zone: object) -> object:
        return NOW


async def test_a_redis_that_is_not_there_yet_does_not_keep_the_gateway_from_starting(sqlite_database: Engine) -> None:
    store = await open_store(f"redis://127.0.0.1:{unused_port()}/0", sqlite_database)
    assert store.degraded
    assert (await store.reserve([requests(5)])).degraded
    with pytest.raises(Unreachable):
        await store.reserve([money(1, 5)])
    await store.close()


@pytest.mark.parametrize("place", ["", "mem", "http://host", "postgresql://user:secret@host/x"])
def test_a_place_that_is_none_is_refused_without_its_password(place: str) -> None:
    with pytest.raises(LimitsError, match="say memory, database or redis") as refused:
        check_place(place)
    assert "secret" not in str(refused.value)


async def test_without_the_extra_redis_it_is_named(sqlite_database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gateway.limits.redis", None)
    with pytest.raises(LimitsError, match=r"pointsman\[redis\]"):
        await open_store("redis://127.0.0.1:1/0", sqlite_database)
