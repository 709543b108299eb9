"""`pointsman serve` with two workers: a canary that falls is back in both, by the word of whichever was told."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.library.lineup import Lineup
from prompts.suite_document import document_of
from tests.gateway.library.test_api import LABEL, NEW, PATH, canonical
from tests.gateway.library.test_canaries import AT_ONE, CANARY, A, B
from tests.gateway.library.world import PROMPT, SUITE, receipt
from tests.gateway.test_workers import BACK_SECONDS, connecting, make_key, two_workers
from tests.gateway.wire import CHAT
from tests.processes import until as wait
from tests.real.server import Server

pytestmark = pytest.mark.anyio

MODELS = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 1000, price: {input_usd: 0, output_usd: 0}}
  - {name: large, engine: scripted, tier: 1, context_tokens: 2000, price: {input_usd: 0, output_usd: 0}}
aliases: {}
learning: {explore_share: 0}
"""


def have_said(server: Server, stage: str) -> int:
    """How many workers serve by this stage of the canary, by their log."""
    return sum("a canary has changed" in line and f'"stage": "{stage}"' in line for line in server.log.splitlines())


async def begun(client: httpx2.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["data"]
    builds = {model["id"]: model["build"] for model in models if "build" in model}
    lineup = Lineup(tuple((name, builds[name]) for name in ("small", "large")), 0.95)
    for of in (A, B):
        saved = await client.post("/v1/prompts", json={"id": PROMPT, "template": canonical(of)})
        assert saved.status_code == 200
    assert (await client.put(f"{PATH}/suite", json=document_of(SUITE))).status_code == 200
    for of in (A, B):
        for tier in ("small", "large"):
            made = receipt(of, tier, lineup=lineup).document()
            assert (await client.post(f"{PATH}/receipts", json=made)).status_code == 200
    assert (await client.put(LABEL, json={"version": 1}, headers=NEW)).status_code == 200
    assert (await client.put(CANARY, json={"version": 2}, headers=AT_ONE)).status_code == 200


async def test_a_canary_that_falls_is_back_in_all_workers_and_once(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"prompt": {"id": PROMPT, "variables": {"text": "t"}}}
    with two_workers(tmp_path, MODELS) as server:
        key = make_key(tmp_path, "--role", "admin")
        async with connecting(server, key) as client:
            await begun(client)
            wait(lambda: have_said(server, "widening") == 2, BACK_SECONDS, "each worker has heard of the canary")
            until = time.monotonic() + BACK_SECONDS
            seen: Counter[str] = Counter()
            told: dict[str, Any] = {"stage": "widening"}
            while told["stage"] == "widening":
                assert time.monotonic() < until, told
                answer = await client.post(CHAT, json=asked)
                assert answer.status_code == 200, answer.text
                seen[answer.headers["x-prompt-version"]] += 1
                if answer.headers["x-prompt-version"] == "2":
                    said = {"request_id": answer.headers["x-request-id"], "name": "correct", "value": False}
                    assert (await client.post("/v1/feedback", json=said)).status_code == 200
                if seen.total() % 20 == 0:
                    told = (await client.get(CANARY)).json()
            assert (told["stage"], told["why"][:9]) == ("back", "feedback:"), told
            assert seen["2"] > 5
            wait(lambda: have_said(server, "back") == 2, BACK_SECONDS, "each worker has said that it went back")
            for _ in range(100):
                assert (await client.post(CHAT, json=asked)).headers["x-prompt-version"] == "1"
            moves = (await client.get(f"{LABEL}/history")).json()["data"]
            assert [move["by"] for move in moves].count("canary") == 1
            assert server.metric("pointsman_canaries_total", stage="back") == 1
        assert server.stop() == 0
    assert "Traceback" not in server.log
