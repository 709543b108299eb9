"""`pointsman serve` with two workers learns as one: what shadows of both have earned both hear of and lose."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.ledger.charge import SHADOW
from prompts.message import template_key
from tests.gateway.test_workers import BACK_SECONDS, EVERYWHERE, connecting, journals, two_workers
from tests.gateway.wire import CHAT
from tests.processes import until
from tests.real.server import Server, environment

pytestmark = pytest.mark.anyio

# Both say the same. An answer is one token, so that of the small model costs a dollar.
FILE = """
models:
  - name: small
    engine: scripted
    tier: 0
    context_tokens: 1000
    parallel: 8
    price: {input_usd: 0, output_usd: 1000000}
  - name: large
    engine: scripted
    tier: 1
    context_tokens: 2000
    parallel: 8
    price: {input_usd: 0, output_usd: 2000000}
aliases: {}
bar: '0.9'
learning: {explore_share: 1.0, explore_usd_per_day: %d}
"""
MESSAGES = [{"role": "system", "content": "Name the capital."}, {"role": "user", "content": "Of France?"}]
BODY: dict[str, Any] = {"model": "auto", "messages": MESSAGES, "max_tokens": 1}  # the most that it may cost it does
TEMPLATE = template_key(BODY) or ""
ROUNDS = 60
DAY_USD = 7


async def asked(client: httpx2.AsyncClient, count: int = EVERYWHERE) -> list[tuple[str, str]]:
    """Who answered, and the request's id; of as many requests, a few at a time on connections of their own."""
    places = asyncio.Semaphore(4)

    async def ask() -> tuple[str, str]:
        async with places:
            answer = await client.post(CHAT, json=BODY)
            assert answer.status_code == 200, answer.text
            return answer.headers["x-pointsman-model"], answer.headers["x-request-id"]

    return await asyncio.gather(*(ask() for _ in range(count)))


async def until_all_say(client: httpx2.AsyncClient, model: str, rounds: int = ROUNDS) -> None:
    """Ask until *model* answers in every worker; what one has learned the other hears of a second later."""
    seen: Counter[str] = Counter()
    for _ in range(rounds):
        seen = Counter(name for name, _ in await asked(client))
        if set(seen) == {model}:
            return
        await asyncio.sleep(0.2)  # they look once a second
    raise AssertionError(f"{model} does not answer everywhere: {seen}")


def shadows(server: Server) -> list[dict[str, Any]]:
    return [charge for charge in server.charges() if charge["operation"] == SHADOW]


def results(server: Server) -> dict[str, float]:
    names = ("same", "different", "spent", "failed", "too_dear", "too_long", "incomparable")
    counted = {name: server.metric("pointsman_shadows_total", model="small", result=name) for name in names}
    return {name: count for name, count in counted.items() if count}


def router(folder: Path, *arguments: str) -> str:
    """What `pointsman router` prints, run beside the gateway."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "router", *arguments],
        env=environment(folder, {"POINTSMAN_CONFIG": str(folder / "pointsman.yaml")}),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def exported(folder: Path) -> dict[str, Any]:
    [line] = router(folder, "export").splitlines()
    document: dict[str, Any] = orjson.loads(line)
    assert (document["template"], document["model"]) == (TEMPLATE, "small")
    return document


def compared(server: Server) -> list[int]:
    """Of its shadows in the database: passed, total, lost, won, paired."""
    kept = server._rows("SELECT record FROM evidence")
    if not kept:
        return [0] * 5
    [generation] = orjson.loads(kept[0]["record"])["generations"]
    tally: list[int] = generation["tallies"]["shadow"]
    return tally


async def test_what_two_workers_find_out_is_counted_once_and_known_to_both(tmp_path: Path) -> None:
    with two_workers(tmp_path, FILE % 100_000) as server:
        async with connecting(server) as client:
            assert {name for name, _ in await asked(client)} == {"large"}
            await until_all_say(client, "small")
            assert len(journals(server)) == 2

            charged = shadows(server)  # nothing is open any more, so these are all
            until(lambda: compared(server)[1] >= len(charged), BACK_SECONDS, "the last second's outcomes are written")
            assert exported(tmp_path)["verdict"] == "holds"
            found = await asked(client, 80)
            assert {name for name, _ in found} == {"small"}
            assert compared(server) == [len(charged), len(charged), 0, 0, len(charged)]
            assert len(charged) == len(shadows(server)) == results(server)["same"]

            told = [{"request_id": id, "name": "correct", "value": False} for _, id in found]
            for one in told:
                for _ in range(2):  # twice is once
                    assert (await client.post("/v1/feedback", json=one)).status_code == 200
            await until_all_say(client, "large")
            document = exported(tmp_path)
            assert (document["verdict"], document["cause"]) == ("suspended", "pass_rate_fell")

            assert "1 records" in router(tmp_path, "reset", TEMPLATE)
            document = exported(tmp_path)
            assert (document["verdict"], document["cause"]) == ("unknown", "reset")
            await until_all_say(client, "small")  # earned anew
        assert server.stop() == 0
    assert "Traceback" not in server.log


async def test_the_days_money_is_one_for_both_workers(tmp_path: Path) -> None:
    """Reserved before it is spent, so not a cent more."""
    with two_workers(tmp_path, FILE % DAY_USD) as server:
        async with connecting(server) as client:
            for _ in range(ROUNDS):
                await asked(client)
                if results(server).get("spent"):
                    break
            assert len(journals(server)) == 2
            until(lambda: len(shadows(server)) == DAY_USD, BACK_SECONDS, "as many shadows as there are dollars")
            await asked(client)
            assert len(shadows(server)) == DAY_USD
            assert sum(charge["cost_nano_usd"] for charge in shadows(server)) == DAY_USD * 10**9
            assert server.metric("pointsman_shadow_cost_usd_total", model="small") == DAY_USD
            until(lambda: compared(server)[1] >= DAY_USD, BACK_SECONDS, "the outcomes are written")
            assert compared(server)[1] == DAY_USD
        assert server.stop() == 0
    assert "Traceback" not in server.log
