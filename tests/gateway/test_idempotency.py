"""Idempotency-Key: a request that is sent twice under one key is answered once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from sqlalchemy import Engine

from gateway.idempotency import DEAD_AFTER, KEPT, Claim, IdempotencyStore, KeyReused, KeyTaken, Stored
from gateway.ledger.database import open_database
from models.engine import Call, EngineCut
from models.scripted import Say, Script, Step, Wait
from tests.gateway.stranger import another_http
from tests.gateway.wire import CHAT, USER, OpenRig, chat, connection, error_of, until

pytestmark = pytest.mark.anyio

KEY = {"idempotency-key": "once"}


async def test_twenty_at_once_call_the_engine_once_and_get_the_same_answer(rig: OpenRig) -> None:
    gate = asyncio.Event()
    async with rig(large=lambda call: [Wait(gate), Say("x")]) as r:
        first = asyncio.create_task(r.http.post(CHAT, json=chat(), headers=KEY))
        await until(lambda: len(r.engines["large"].calls) == 1, 5)
        others = await asyncio.gather(*(r.http.post(CHAT, json=chat(), headers=KEY) for _ in range(19)))
        for response in others:
            assert response.status_code == 409
            assert error_of(response)["code"] == "idempotency_key_in_use"
            assert response.headers["retry-after"] == "1"
        gate.set()
        answer = await first
        assert "idempotency-replayed" not in answer.headers
        again = await asyncio.gather(*(r.http.post(CHAT, json=chat(), headers=KEY) for _ in range(20)))
        for response in again:
            assert (response.status_code, response.content) == (200, answer.content)
            assert response.headers["idempotency-replayed"] == "true"
            assert response.headers["content-type"] == "application/json"
        assert len(r.engines["large"].calls) == 1
        rows = await r.charges(40)
        assert Counter((row["outcome"], row["cache"]) for row in rows) == {
            ("ok", None): 1,
            ("refused", None): 19,
            ("ok", "idempotent"): 20,
        }
        replays = [row for row in rows if row["cache"]]
        assert {(row["cost_nano_usd"], row["prompt_tokens"], row["completion_tokens"]) for row in replays} == {
            (0, 0, 0)
        }


async def test_twenty_at_once_from_the_start_call_the_engine_once(rig: OpenRig) -> None:
    """The official client tries again on 409."""
    async with rig() as r, AsyncOpenAI(base_url=f"{r.base_url}/v1", api_key=r.key, max_retries=5) as client:
        ask = client.chat.completions.create
        answers = await asyncio.gather(*(ask(model="large", messages=[USER], extra_headers=KEY) for _ in range(20)))
        assert {answer.choices[0].message.content for answer in answers} == {"large answer"}
        assert len(r.engines["large"].calls) == 1


async def test_another_body_or_path_under_the_same_key_is_refused(rig: OpenRig) -> None:
    async with rig() as r:
        await r.http.post(CHAT, json=chat(), headers=KEY)
        for path, body in ((CHAT, chat(n=1)), ("/v1/responses", chat())):
            response = await r.http.post(path, json=body, headers=KEY)
            assert response.status_code == 400
            assert error_of(response)["code"] == "idempotency_key_reused"
        assert len(r.engines["large"].calls) == 1


async def test_each_caller_has_its_own_keys(rig: OpenRig) -> None:
    async with rig() as r, another_http(r) as other:
        await r.http.post(CHAT, json=chat(), headers=KEY)
        response = await other.post(CHAT, json=chat(n=1), headers=KEY)
        assert response.status_code == 200
        assert "idempotency-replayed" not in response.headers
        assert len(r.engines["large"].calls) == 2


async def test_a_streamed_request_has_no_key(rig: OpenRig) -> None:
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat(stream=True), headers=KEY)
        assert response.status_code == 400
        assert error_of(response)["param"] == "stream"
        assert r.engines["large"].calls == []


@pytest.mark.parametrize("key", ["", "a\tb", "k" * 257])
async def test_a_key_that_is_none_is_refused(rig: OpenRig, key: str) -> None:
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat(), headers={"idempotency-key": key})
        assert response.status_code == 400
        assert error_of(response)["code"] == "invalid_idempotency_key"


async def test_a_failure_is_not_kept(rig: OpenRig) -> None:
    steps: Iterator[Step] = iter([EngineCut("broke off"), Say("back")])

    def fails_once(call: Call) -> Script:
        return [next(steps)]

    async with rig(large=fails_once) as r:
        assert (await r.http.post(CHAT, json=chat(), headers=KEY)).status_code == 502
        response = await r.http.post(CHAT, json=chat(), headers=KEY)
        assert (response.status_code, "back" in response.text) == (200, True)


async def test_a_key_is_free_again_when_its_client_has_left(rig: OpenRig) -> None:
    steps: Iterator[Step] = iter([Wait(), Say("there")])

    def hangs_once(call: Call) -> Script:
        return [next(steps)]

    async with rig(large=hangs_once) as r:
        body = b'{"model":"large","messages":[{"role":"user","content":"x"}]}'
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {r.key}\r\nidempotency-key: once\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        async with connection(r, head.encode() + body):
            await until(lambda: len(r.engines["large"].calls) == 1, 5)
        await r.charges(1)
        response = await r.http.post(CHAT, content=body, headers=KEY)
        assert (response.status_code, "there" in response.text) == (200, True)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    yield engine
    engine.dispose()


def claimed(store: IdempotencyStore, digest: str = "d") -> Claim:
    claim = store.claim("me", "key", digest)
    assert isinstance(claim, Claim)
    return claim


def test_a_dead_process_does_not_hold_a_key_for_long_and_cannot_come_back(database: Engine) -> None:
    clock = Clock()
    store = IdempotencyStore(database, clock=clock)
    dead = claimed(store)
    clock.now += DEAD_AFTER - timedelta(seconds=1)
    with pytest.raises(KeyTaken):
        store.claim("me", "key", "d")
    clock.now += timedelta(seconds=1)
    successor = claimed(store)
    assert not store.beat(dead)
    assert not store.keep(dead, Stored(200, "late"))
    store.release(dead)
    assert store.keep(successor, Stored(200, "good"))
    assert store.claim("me", "key", "d") == Stored(200, "good")


def test_whoever_beats_keeps_the_key(database: Engine) -> None:
    clock = Clock()
    store = IdempotencyStore(database, clock=clock)
    claim = claimed(store)
    for _ in range(5):
        clock.now += DEAD_AFTER - timedelta(seconds=1)
        assert store.beat(claim)
    with pytest.raises(KeyTaken):
        store.claim("me", "key", "d")


def test_an_answer_is_kept_for_a_day(database: Engine) -> None:
    clock = Clock()
    store = IdempotencyStore(database, clock=clock)
    store.keep(claimed(store), Stored(200, "x"))
    clock.now += KEPT - timedelta(seconds=1)
    assert store.claim("me", "key", "d") == Stored(200, "x")
    with pytest.raises(KeyReused):
        store.claim("me", "key", "other")
    clock.now += timedelta(seconds=1)
    claimed(store, "other")


def test_a_released_key_may_be_used_at_once_and_for_another_request(database: Engine) -> None:
    store = IdempotencyStore(database)
    store.release(claimed(store))
    claimed(store, "other")
