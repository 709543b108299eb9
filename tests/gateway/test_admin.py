"""Reloading a running gateway: who may, that it changes what serves, and that a mistake changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.keys import Grant, Role
from models.engine import Call
from models.scripted import Say, Script, Wait
from tests.gateway.wire import CHAT, OpenRig, chat, error_of, until
from tests.rig import CATALOG, Rig

pytestmark = pytest.mark.anyio

ONE_MORE = CATALOG.replace("aliases:\n", "aliases:\n  gpt-5-mini: small\n")
WITHOUT_SMALL = """
models:
  - name: large
    engine: scripted
    tier: 1
    context_tokens: 2000
    price: {input_usd: "1", output_usd: "2"}
"""


async def admin_of(r: Rig) -> dict[str, str]:
    key, _ = await asyncio.to_thread(r.runtime.keys.create, "admin", Grant(role=Role.ADMIN))
    return {"authorization": f"Bearer {key}"}


def catalogue(r: Rig) -> Path:
    return r.runtime.settings.catalog


async def test_only_an_admin_may(rig: OpenRig) -> None:
    async with rig() as r:
        refused = await r.http.post("/admin/reload")
        assert (refused.status_code, error_of(refused)["code"]) == (403, "admin_only")


async def test_what_a_reload_takes_in_serves_from_then_on(rig: OpenRig) -> None:
    async with rig() as r:
        admin = await admin_of(r)
        assert (await r.http.post(CHAT, json=chat("gpt-5-mini"))).status_code == 404
        catalogue(r).write_text(ONE_MORE, encoding="utf-8")
        assert (await r.http.post("/admin/reload", headers=admin)).json()["result"] == "ok"
        assert (await r.http.post(CHAT, json=chat("gpt-5-mini"))).status_code == 200
        assert await r.metric("pointsman_reloads_total", result="ok") == 1


async def test_a_mistake_is_refused_whole_and_the_old_settings_serve(rig: OpenRig) -> None:
    async with rig() as r:
        admin = await admin_of(r)
        catalogue(r).write_text(ONE_MORE.replace("tier: 0", "tier: -1"), encoding="utf-8")
        refused = await r.http.post("/admin/reload", headers=admin)
        assert (refused.status_code, error_of(refused)["code"]) == (400, "invalid_settings")
        assert "tier" in error_of(refused)["message"]
        assert (await r.http.post(CHAT, json=chat("small"))).status_code == 200
        assert (await r.http.post(CHAT, json=chat("gpt-5-mini"))).status_code == 404
        assert await r.metric("pointsman_reloads_total", result="refused") == 1


async def test_an_answer_that_runs_while_its_model_is_taken_away_ends_well(rig: OpenRig) -> None:
    async with slow_small(rig) as (r, go_on):
        running = asyncio.create_task(r.http.post(CHAT, json=chat("small", stream=True)))
        await until(lambda: len(r.engines["small"].calls) == 1)
        catalogue(r).write_text(WITHOUT_SMALL, encoding="utf-8")
        assert (await r.http.post("/admin/reload", headers=await admin_of(r))).status_code == 200
        assert (await r.http.post(CHAT, json=chat("small"))).status_code == 404
        go_on.set()
        assert "the end" in (await running).text


async def test_a_hundred_reloads_good_and_bad_cost_no_request(rig: OpenRig) -> None:
    async with rig() as r:
        admin = await admin_of(r)
        done = False
        statuses: list[int] = []

        async def client() -> None:
            while not done:
                statuses.append((await r.http.post(CHAT, json=chat("large"))).status_code)

        clients = [asyncio.create_task(client()) for _ in range(4)]
        for place in range(100):
            text = (CATALOG, ONE_MORE, "models: [", WITHOUT_SMALL)[place % 4]
            catalogue(r).write_text(text, encoding="utf-8")
            await r.http.post("/admin/reload", headers=admin)
        done = True
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        results = [await r.metric("pointsman_reloads_total", result=result) for result in ("ok", "refused")]
        assert results == [75, 25]


@asynccontextmanager
async def slow_small(rig: OpenRig) -> AsyncIterator[tuple[Rig, asyncio.Event]]:
    go_on = asyncio.Event()

    def play(call: Call) -> Script:
        return [Say("one "), Wait(go_on), Say("the end")]

    async with rig(small=play) as r:
        yield r, go_on
