"""What every store of answers promises, and what each does about its own limits."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.cache.redis import PREFIX, RedisStore
from gateway.cache.stores import ENTRY_BYTES, MemoryStore, Store
from gateway.limits.redis import DEADLINE_SECONDS, PAUSE_SECONDS, connect
from tests.fakes import unused_port
from tests.gateway.cache.worlds import Clock
from tests.services import redis_server

pytestmark = pytest.mark.anyio

TTL_SECONDS = 60
PATIENCE_SECONDS = 10.0  # a busy machine is not taken for a dead Redis


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis_server() as (url, _):
        yield url


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.services)])
async def store(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore(TTL_SECONDS, 1 << 20)
    else:
        client = connect(request.getfixturevalue("redis_url"))
        await client.flushdb()
        made = RedisStore(client, TTL_SECONDS, deadline_seconds=PATIENCE_SECONDS)
    yield made
    await made.close()


async def test_what_was_put_is_there_until_it_is_replaced(store: Store) -> None:
    assert await store.get("a") is None
    await store.put("a", b"one")
    await store.put("b", b"\x00\xff")
    assert (await store.get("a"), await store.get("b")) == (b"one", b"\x00\xff")
    await store.put("a", b"two")
    assert await store.get("a") == b"two"


async def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    clock = Clock()
    store = MemoryStore(TTL_SECONDS, 1 << 20, clock=clock)
    await store.put("a", b"x")
    clock.now += TTL_SECONDS - 0.1
    assert await store.get("a") == b"x"
    clock.now += 0.1
    assert await store.get("a") is None
    assert store.bytes == 0


@pytest.mark.services
async def test_redis_is_told_when_to_forget(redis_url: str) -> None:
    client = connect(redis_url)
    store = RedisStore(client, TTL_SECONDS, deadline_seconds=PATIENCE_SECONDS)
    await store.put("a", b"x")
    assert 0 < await client.ttl(PREFIX + "a") <= TTL_SECONDS
    await store.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 300)), max_size=60))
async def test_memory_keeps_the_last_used_that_fit(steps: list[tuple[bool, int, int]]) -> None:
    limit = 4 * (ENTRY_BYTES + 150)
    store, model = MemoryStore(TTL_SECONDS, limit, clock=Clock()), dict[str, bytes]()
    for puts, number, size in steps:
        key, answer = str(number), bytes(size)
        if puts:
            await store.put(key, answer)
            model.pop(key, None)
            model[key] = answer
            while sum(len(held) + ENTRY_BYTES for held in model.values()) > limit:
                model.pop(next(iter(model)))
        else:
            assert await store.get(key) == model.get(key)
            if key in model:
                model[key] = model.pop(key)
        assert store.bytes == sum(len(held) + ENTRY_BYTES for held in model.values()) <= limit


async def test_an_answer_larger_than_the_whole_memory_is_not_kept() -> None:
    store = MemoryStore(TTL_SECONDS, 1000)
    await store.put("small", b"x")
    await store.put("large", bytes(1000))
    assert (await store.get("small"), await store.get("large")) == (b"x", None)


async def test_without_a_redis_nothing_is_found_and_nothing_fails() -> None:
    clock = Clock()
    store = RedisStore(connect(f"redis://127.0.0.1:{unused_port()}/0"), TTL_SECONDS, clock=clock)
    with capture_logs() as logs:
        for _ in range(3):
            await store.put("a", b"x")
            assert await store.get("a") is None
            clock.now += PAUSE_SECONDS
    assert len(logs) == 1, "one line, not one a request"
    await store.close()


@pytest.mark.services
async def test_a_redis_that_hangs_is_let_alone_and_asked_again() -> None:
    with redis_server() as (url, process):
        clock = Clock()
        store = RedisStore(connect(url), TTL_SECONDS, deadline_seconds=PATIENCE_SECONDS, clock=clock)
        await store.put("a", b"x")
        os.kill(process.pid, signal.SIGSTOP)
        store._deadline_seconds = DEADLINE_SECONDS
        assert await store.get("a") is None
        store._deadline_seconds = 30.0
        start = perf_counter()
        for _ in range(100):
            assert await store.get("a") is None
        assert perf_counter() - start < 10, "not one of them waited"
        os.kill(process.pid, signal.SIGCONT)
        clock.now += PAUSE_SECONDS
        assert await until_found(store, clock) == b"x"
        await store.close()


async def until_found(store: RedisStore, clock: Clock) -> Any:
    """Its client gives up on a slow answer by itself: a few questions may be in vain."""
    for _ in range(50):
        if (found := await store.get("a")) is not None:
            return found
        clock.now += PAUSE_SECONDS
    return None


def test_a_request_waits_for_redis_no_longer_than_fifty_milliseconds() -> None:
    assert DEADLINE_SECONDS <= 0.05
