"""What a scraper reads, and that nobody waits while it is written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway import exposition
from gateway.exposition import ENGINES_PER_STEP, LINES_PER_STEP, expose, pieces, read_gauges
from gateway.meter import SECONDS, Metrics
from models.scripted import ScriptedEngine
from models.vllm.readings import Readings
from tests.gateway.wire import OpenRig
from tests.rig import CATALOG, say

MODELS = 300
LONGEST_CHILD_LINES = len(SECONDS) + 3  # its buckets, the one without a bound, their sum and count
HEADER_LINES = 2
THIRD = "  - {name: third, engine: scripted, tier: 2, context_tokens: 2000}\n"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    """As after a day with many models, one of an awkward name."""
    metrics = Metrics(registry)
    for name in [f"provider/model-{number}" for number in range(MODELS)] + ['a"\\\nb']:
        for outcome in ("ok", "failed"):
            metrics.requests.of(name, outcome).inc()
        metrics.cost.of(name).inc(0.1)
        metrics.first_chunk.of(name).observe(0.2)
        metrics.total.of(name).observe(500)
        metrics.engine_up.of(name).set(1)
    return metrics


def test_the_text_is_the_one_that_prometheus_client_writes(metrics: Metrics, registry: CollectorRegistry) -> None:
    assert "".join(pieces(metrics.families.values())).encode() == generate_latest(registry)


def test_no_piece_is_long_however_many_models_there_are(metrics: Metrics) -> None:
    """Of 12,000 lines; each takes some microseconds."""
    lengths = [piece.count("\n") for piece in pieces(metrics.families.values())]
    assert sum(lengths) > 10_000
    assert max(lengths) < LINES_PER_STEP + LONGEST_CHILD_LINES + HEADER_LINES * len(metrics.families)


@pytest.mark.anyio
async def test_others_have_their_turn_after_each_piece(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "LINES_PER_STEP", 10)
    async with rig() as r, counting_turns() as turns:
        text = (await expose(r.runtime)).decode()
        assert len(turns) >= text.count("\n") / (10 + LONGEST_CHILD_LINES)


@pytest.mark.anyio
async def test_engines_are_asked_a_few_at_a_time(rig: OpenRig) -> None:
    async with rig() as r:
        some = r.runtime.engines["small"]
        many = replace(r.runtime, engines={f"small {number}": some for number in range(4 * ENGINES_PER_STEP)})
        async with counting_turns() as turns:
            await read_gauges(many)
            assert len(turns) >= 4


@asynccontextmanager
async def counting_turns() -> AsyncIterator[list[None]]:
    """One entry for each turn that somebody else had."""
    turns: list[None] = []

    async def take_turns() -> None:
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    yield turns
    other.cancel()


class Telling(ScriptedEngine):
    """Says of itself what a vLLM server says; None where it says nothing."""

    said: Readings | None = Readings(2, 3, 0.25, 0.5)

    async def readings(self) -> Readings | None:
        return self.said


@pytest.mark.anyio
async def test_what_a_server_says_of_itself_is_among_the_metrics(rig: OpenRig) -> None:
    """It is asked when we are, and one that says nothing leaves what it said last."""
    telling = Telling("third", say("hi"))
    async with rig(catalog=CATALOG.replace("aliases:", THIRD + "aliases:"), others={"third": telling}) as r:
        for said in (Readings(2, 3, 0.25, 0.5), None):
            telling.said = said
            text = (await r.http.get("/metrics")).text
            assert 'pointsman_engine_running_requests{model="third"} 2.0' in text
            assert 'pointsman_engine_waiting_requests{model="third"} 3.0' in text
            assert 'pointsman_engine_kv_used_ratio{model="third"} 0.25' in text
            assert 'pointsman_engine_prefix_hit_ratio{model="third"} 0.5' in text
            assert 'pointsman_engine_running_requests{model="small"}' not in text
