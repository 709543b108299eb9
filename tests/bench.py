"""`make bench`: what the gateway adds to a call, what a decision takes, and what each local model does here.

Everything is measured side by side in one run on loopback; seconds of processor time are the robust figure, wall-clock
times are disturbed by whatever else the machine does. Bounded: a few thousand small requests and a few hundred tokens.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import orjson

from gateway.app import load_knowledge_for, make_engines, model_store
from gateway.cli.models import fetch
from gateway.cli.screen import console, table
from gateway.runtime import decide
from gateway.schema import parse_chat
from gateway.served import served_catalog
from gateway.settings import load_settings
from models.catalog import Catalog
from models.engine import Call, Chunk, Engine, EngineState
from models.llamacpp import LlamaCppEngine
from models.upstream import new_session
from router.strategies import STRATEGIES

CLIENTS = 8
ROUND_REQUESTS = 400
ROUNDS = 3
WARM_UP_REQUESTS = 50
DECISIONS = 2000
START_TIMEOUT_SECONDS = 60
ANSWER_TOKENS = 64
MODEL_ROUNDS = 3
PROMPT = "Write one sentence about each of these things: " + ", ".join(f"thing number {i}" for i in range(60))
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

CATALOG = """
models:
  - name: upstream
    engine: openai
    tier: 0
    context_tokens: 8192
    base_url: http://127.0.0.1:{port}/v1
    parallel: 64
    price: {{input_usd: 1, output_usd: 2}}
"""
BODY = orjson.dumps(
    {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France? " * 10}]}
)
STREAM_BODY = orjson.dumps({**orjson.loads(BODY), "stream": True})


@dataclass(frozen=True, slots=True)
class Load:
    """One round of requests: seconds per request, and processor seconds of the process under test for all of them."""

    seconds: Sequence[float]
    cpu_seconds: float


async def main() -> None:
    """Print the three tables."""
    await measure_gateway()
    measure_decisions()
    await measure_models()


async def measure_gateway() -> None:
    """The same fake upstream, called directly and through the gateway, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        upstream_port, gateway_port = _free_port(), _free_port()
        catalog = Path(folder) / "catalog.yaml"
        catalog.write_text(CATALOG.format(port=upstream_port), encoding="utf-8")
        environment = {
            **os.environ,
            "POINTSMAN_CATALOG": str(catalog),
            "POINTSMAN_MODELS": "all",
            "POINTSMAN_DATA_DIR": folder,
            "POINTSMAN_PORT": str(gateway_port),
            "POINTSMAN_OPEN_LOOPBACK": "true",
            "POINTSMAN_LOG_LEVEL": "info",
        }
        upstream = ["-m", "uvicorn", "--port", str(upstream_port), "--log-level", "warning", "tests.fake_openai:app"]
        async with (
            _process(upstream, f"http://127.0.0.1:{upstream_port}/livez", {**os.environ}),
            _process(["-m", "gateway", "serve"], f"http://127.0.0.1:{gateway_port}/readyz", environment) as gateway,
            new_session() as session,
        ):
            targets = {"direct": (upstream_port, 0), "gateway": (gateway_port, gateway.pid)}
            shown = table("call", "how", "p50 ms.", "p99 ms.", "added p50 ms.", "gateway CPU-s per 1,000.")
            for call, body in (("plain", BODY), ("streamed, 32 chunks", STREAM_BODY)):
                rounds: dict[str, list[Load]] = {name: [] for name in targets}
                for port, _ in targets.values():
                    await _load(session, port, body, WARM_UP_REQUESTS, 0)
                for _ in range(ROUNDS):
                    for name, (port, process_id) in targets.items():
                        rounds[name].append(await _load(session, port, body, ROUND_REQUESTS, process_id))
                direct_ms = _p50_ms(rounds["direct"])
                for name, loads in rounds.items():
                    p99_ms = median(1000 * sorted(load.seconds)[int(0.99 * len(load.seconds))] for load in loads)
                    per_thousand = median(1000 * load.cpu_seconds / len(load.seconds) for load in loads)
                    p50_ms = _p50_ms(loads)
                    added = "" if name == "direct" else f"{p50_ms - direct_ms:.2f}"
                    cpu = "" if name == "direct" else f"{per_thousand:.2f}"
                    shown.add_row(call, name, f"{p50_ms:.2f}", f"{p99_ms:.2f}", added, cpu)
            console.print(
                f"\n[bold]Gateway[/]: {CLIENTS} clients, {ROUNDS} rounds of {ROUND_REQUESTS} requests, in turns"
            )
            console.print(shown)


def measure_decisions() -> None:
    """The router alone, on a request of about 600 characters that names a template."""
    settings = load_settings()
    catalog = served_catalog(settings)
    knowledge = load_knowledge_for(catalog, settings)
    strategy = STRATEGIES[settings.strategy]()
    system = {"role": "system", "content": "Task: navigate.\nAnswer the question."}
    messages = [system, {"role": "user", "content": "Take 10 steps. Turn left. " * 23}]
    request = parse_chat(orjson.dumps({"model": "auto", "messages": messages}), catalog)
    start = time.process_time()
    seconds = sorted(decide(strategy, knowledge, request)[1] for _ in range(DECISIONS))
    cpu_us = 1e6 * (time.process_time() - start) / DECISIONS
    shown = table("decisions.", "p50 us.", "p99 us.", "CPU us each.")
    shown.add_row(
        str(DECISIONS), f"{1e6 * median(seconds):.0f}", f"{1e6 * seconds[int(0.99 * DECISIONS)]:.0f}", f"{cpu_us:.0f}"
    )
    console.print("\n[bold]Router[/]: one decision, template key and features included, 600 characters")
    console.print(shown)


async def measure_models() -> None:
    """Each local model of the catalogue, one request at a time, a new prompt each time so that no cache helps."""
    settings = load_settings()
    catalog = served_catalog(settings.model_copy(update={"models": ("all",)}))
    local = Catalog({m.name: m for m in catalog if m.file is not None}, {})
    for model in local:
        assert model.file is not None
        fetch(model_store(settings), model, model.file)
    shown = table(
        "model", "ready s.", "first token s.", "prompt tokens/s.", "answer tokens/s.", "CPU-s per answer.", "RSS MB."
    )
    async with new_session() as session:
        for name, engine in make_engines(local, settings, session).items():
            assert isinstance(engine, LlamaCppEngine)
            start = time.perf_counter()
            await engine.start()
            while engine.health().state is not EngineState.READY:  # noqa: ASYNC110  # engines offer no event
                await asyncio.sleep(0.02)
            ready_seconds = time.perf_counter() - start
            assert engine.process_id is not None
            await _answer(engine, "warm up")
            cpu_start = _cpu_seconds(engine.process_id)
            answers = [await _answer(engine, f"Round {place}. {PROMPT}") for place in range(MODEL_ROUNDS)]
            cpu_seconds = (_cpu_seconds(engine.process_id) - cpu_start) / MODEL_ROUNDS
            shown.add_row(
                name,
                f"{ready_seconds:.1f}",
                f"{median(a.first_seconds for a in answers):.2f}",
                f"{median(a.prompt_tokens / a.first_seconds for a in answers):.0f}",
                f"{median((a.completion_tokens - 1) / (a.total_seconds - a.first_seconds) for a in answers):.1f}",
                f"{cpu_seconds:.1f}",
                f"{_resident_bytes(engine.process_id) / 1e6:,.0f}",
            )
            await engine.stop()
    console.print(f"\n[bold]Models[/]: one request at a time, {ANSWER_TOKENS} tokens answered, {os.cpu_count()} cores")
    console.print(shown)


@dataclass(frozen=True, slots=True)
class _Answer:
    first_seconds: float
    total_seconds: float
    prompt_tokens: int
    completion_tokens: int


async def _answer(engine: Engine, prompt: str) -> _Answer:
    messages = [{"role": "user", "content": prompt}]
    body = {"messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True}
    start = time.perf_counter()
    chunks: list[tuple[float, Chunk]] = []
    async for chunk in engine.answer(Call(body, stream=True)):
        chunks.append((time.perf_counter() - start, chunk))
    usage = chunks[-1][1].usage
    assert usage is not None
    return _Answer(chunks[0][0], chunks[-1][0], usage.prompt_tokens, usage.completion_tokens)


async def _load(session: aiohttp.ClientSession, port: int, body: bytes, requests: int, process_id: int) -> Load:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    seconds: list[float] = []

    async def client() -> None:
        for _ in range(requests // CLIENTS):
            start = time.perf_counter()
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                await response.read()
                assert response.status == 200, response.status
            seconds.append(time.perf_counter() - start)

    cpu_start = _cpu_seconds(process_id)
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return Load(seconds, _cpu_seconds(process_id) - cpu_start)


@asynccontextmanager
async def _process(
    arguments: Sequence[str], ready_url: str, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with new_session() as session, asyncio.timeout(START_TIMEOUT_SECONDS):
            while not await _is_up(session, ready_url):
                assert process.returncode is None, f"{' '.join(arguments)} ended"
                await asyncio.sleep(0.05)
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _is_up(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _p50_ms(loads: Sequence[Load]) -> float:
    return median(1000 * median(load.seconds) for load in loads)


def _cpu_seconds(process_id: int) -> float:
    """User and system time of a process so far; 0 for process 0, which stands for nobody."""
    if process_id == 0:
        return 0.0
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    asyncio.run(main())
