"""Budgets and limits through the front door: what is spent never passes the cap, and every place is given back."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from gateway.keys import Grant
from gateway.limits.budgets import Limits
from models.engine import Call, EngineCut, EngineUnavailable
from models.scripted import Say, Script, Wait
from tests.gateway.wire import CHAT, USER, OpenRig, chat, error_of, until
from tests.rig import Rig

pytestmark = pytest.mark.anyio

NANO = 10**9


@asynccontextmanager
async def limited(r: Rig, limits: Limits) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose key has these limits."""
    key, _ = await asyncio.to_thread(r.runtime.keys.create, "limited", Grant(limits=limits))
    async with httpx2.AsyncClient(
        base_url=r.base_url, headers={"authorization": f"Bearer {key}"}, timeout=30
    ) as client:
        yield client


async def spent_nano_usd(r: Rig, requests: int) -> int:
    return sum(row["cost_nano_usd"] or 0 for row in await r.charges(requests))


async def test_a_budget_that_is_spent_refuses_and_calls_nobody(rig: OpenRig) -> None:
    async with rig() as r, limited(r, Limits(day_nano_usd=1)) as client:
        response = await client.post(CHAT, json=chat("large", max_tokens=10))
        error = error_of(response)
        assert (response.status_code, error["code"], error["type"]) == (429, "insufficient_quota", "insufficient_quota")
        assert response.headers["x-should-retry"] == "false"
        assert "retry-after" not in response.headers  # it would not fit tomorrow either
        assert r.engines["large"].calls == []


async def test_no_crowd_spends_more_than_the_budget(rig: OpenRig) -> None:
    """Sixty-four at once, whose answers end, break off, fail, or are left by their clients."""
    chance = random.Random(0)
    ends: dict[str, Script] = {
        "ends": [Say("x ")] * 8,
        "breaks": [Say("x "), EngineCut("broke off")],
        "fails": [EngineUnavailable("gone")],
        "hangs": [Say("x "), Wait()],
    }

    hanging = dict[str, asyncio.Event]()

    def play(call: Call) -> Script:
        end, name = call.body["messages"][0]["content"].split()
        if end == "hangs":
            hanging[name].set()
        return ends[end]

    budget = NANO // 100  # a cent: some of the worst cases below
    async with rig(large=play) as r, limited(r, Limits(day_nano_usd=budget)) as client:
        statuses: list[int | None] = []

        async def request(name: str) -> int | None:
            """The status; None when the engine hung and the client left."""
            end = chance.choice(list(ends))
            words = [{"role": "user", "content": f"{end} {name}"}]
            body = chat("large", messages=words, max_tokens=8, stream=chance.random() < 0.7)
            hanging[name] = asyncio.Event()
            answer = asyncio.ensure_future(client.post(CHAT, json=body))
            hangs = asyncio.ensure_future(hanging[name].wait())
            await asyncio.wait([answer, hangs], return_when=asyncio.FIRST_COMPLETED)
            hangs.cancel()
            if answer.done():
                return (await answer).status_code
            answer.cancel()
            return None

        async def worker(number: int) -> None:
            for turn in range(4):
                statuses.append(await request(f"{number}-{turn}"))

        await asyncio.gather(*(worker(number) for number in range(64)))
        await until(lambda: r.runtime.engines["large"].in_flight == 0, 5.0)
        assert await spent_nano_usd(r, 256) <= budget
        assert {429, 200} <= set(statuses)


async def test_what_was_reserved_and_not_used_can_be_spent_by_the_next(rig: OpenRig) -> None:
    async with rig() as r:
        worst = 2_000 * NANO // 1_000_000  # a thousand tokens each way at most, of which the answer takes a few
        async with limited(r, Limits(day_nano_usd=4 * worst)) as client:
            for _ in range(20):
                response = await client.post(CHAT, json=chat("large", max_tokens=1000))
                assert response.status_code == 200, response.text


async def test_a_clamped_request_is_answered_shorter_instead_of_refused(rig: OpenRig) -> None:
    async with rig(clamp_to_budget=True) as r, limited(r, Limits(day_nano_usd=3 * NANO // 1000)) as client:
        assert (await client.post(CHAT, json=chat("large", max_tokens=1900))).status_code == 200
        [call] = r.engines["large"].calls
        assert 1 <= call.body["max_tokens"] < 1900


async def test_limits_per_minute_say_what_is_left_and_when_to_come_back(rig: OpenRig) -> None:
    async with rig() as r, limited(r, Limits(requests_per_minute=2)) as client:
        left = [(await client.post(CHAT, json=chat("large"))).headers["x-ratelimit-remaining-requests"] for _ in "ab"]
        assert left == ["1", "0"]
        refused = await client.post(CHAT, json=chat("large"))
        assert (refused.status_code, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert 0 < int(refused.headers["retry-after"]) <= 60


async def test_a_place_is_free_again_when_the_client_has_its_answer(rig: OpenRig) -> None:
    async with rig() as r, limited(r, Limits(concurrency=1)) as client:
        for stream in (False, True) * 5:
            assert (await client.post(CHAT, json=chat("large", stream=stream))).status_code == 200


async def test_a_place_is_free_again_when_the_client_has_left(rig: OpenRig) -> None:
    async with rig(large=lambda call: [Wait()]) as r, limited(r, Limits(concurrency=1)) as client:
        leaving = asyncio.create_task(client.post(CHAT, json=chat("large")))
        await until(lambda: len(r.engines["large"].calls) == 1)
        assert (await client.post(CHAT, json=chat("large"))).status_code == 429
        leaving.cancel()
        await until(lambda: r.engines["large"].abandoned == 1)
        again = asyncio.create_task(client.post(CHAT, json=chat("large")))
        await until(lambda: len(r.engines["large"].calls) == 2)
        again.cancel()


async def test_a_key_is_bound_to_its_models(rig: OpenRig) -> None:
    async with rig() as r:
        key, _ = await asyncio.to_thread(r.runtime.keys.create, "bound", Grant(models=frozenset({"small"})))
        own = {"authorization": f"Bearer {key}"}
        refused = await r.http.post(CHAT, json=chat("large"), headers=own)
        assert (refused.status_code, error_of(refused)["code"]) == (403, "model_not_allowed")
        routed = await r.http.post(CHAT, json={"model": "auto", "messages": [USER]}, headers=own)
        assert routed.headers["x-pointsman-model"] == "small"
        listed = (await r.http.get("/v1/models", headers=own)).json()["data"]
        assert [model["id"] for model in listed] == ["auto", "small", "gpt-4o-mini"]


async def test_a_request_without_limits_has_none_in_its_headers(rig: OpenRig) -> None:
    async with rig() as r:
        response = await r.http.post(CHAT, json=chat("large"))
        assert not [name for name in response.headers if name.startswith("x-ratelimit")]
