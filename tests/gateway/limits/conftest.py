"""`bench`: a test that asks for it runs on every store of limits."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from gateway.ledger.database import open_database
from gateway.limits import redis
from tests.gateway.limits.benches import Bench, DatabaseBench, MemoryBench, RedisBench, WorkersBench
from tests.services import postgres_server, redis_server

PATIENCE_SECONDS = 10.0  # what is promised here is what is counted; how fast is another test's

STORES = [
    "memory",
    "workers",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.services),
    pytest.param("redis", marks=pytest.mark.services),
]


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Engine]:
    database = open_database(f"sqlite:///{tmp_path / 'pointsman.db'}")
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_database(postgres_url: str) -> Iterator[Engine]:
    database = open_database(postgres_url)
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as (url, _):
        yield url


@pytest.fixture(params=STORES)
async def bench(
    request: pytest.FixtureRequest, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    monkeypatch.setattr(redis, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    made = await _made(request.param, request.getfixturevalue)
    yield made
    await made.close()


async def _made(name: str, fixture: Any) -> Bench:
    if name == "memory":
        return MemoryBench()
    if name == "workers":
        return await WorkersBench.make()
    if name != "redis":
        return DatabaseBench(fixture(f"{name}_database"))
    made = RedisBench(fixture("redis_url"))
    await made.client.flushdb()
    await made.store.seed({})
    return made
