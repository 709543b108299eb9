"""The models' part: each local model of the catalogue, one request at a time, a new prompt each time so that no cache
helps. A few hundred tokens each.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from statistics import median

from gateway.builder import make_engines
from gateway.cli.compress.resources import family
from gateway.cli.models import fetch
from gateway.served import served_catalog
from gateway.settings import load_settings
from models.catalog import Catalog
from models.engine import Call, Engine, EngineState
from models.process import ProcessEngine
from tests.bench.grid import Cell, Grid
from tests.bench.measure import cpu_seconds, resident_bytes

ANSWER_TOKENS = 64
ROUNDS = 3
PROMPT = "Write one sentence about each of these things: " + ", ".join(f"thing number {i}" for i in range(60))


@dataclass(frozen=True, slots=True)
class Answer:
    first_seconds: float
    total_seconds: float
    prompt_tokens: int
    completion_tokens: int


async def measure_models() -> list[Grid]:
    """Fetches the models that are missing."""
    settings = load_settings()
    catalog = served_catalog(settings.model_copy(update={"models": ("all",)}))
    local = Catalog({m.name: m for m in catalog if m.file is not None}, {})
    for model in local:
        fetch(settings, model)
    rows: list[list[Cell]] = []
    for name, replicas in make_engines(local, settings).items():
        engine = replicas[0]
        assert isinstance(engine, ProcessEngine)
        rows.append([name, *await _measured(engine)])
    return [
        Grid(
            f"Models: one request at a time, {ANSWER_TOKENS} tokens answered, {os.cpu_count()} cores",
            (
                "model",
                "ready s",
                "first token s",
                "prompt tokens/s",
                "answer tokens/s",
                "CPU-s per answer",
                "RSS MB",
            ),
            rows,
        )
    ]


async def _measured(engine: ProcessEngine) -> list[Cell]:
    start = time.perf_counter()
    await engine.start()
    try:
        while engine.health().state is not EngineState.READY:  # noqa: ASYNC110  # engines offer no event
            await asyncio.sleep(0.02)
        ready_seconds = time.perf_counter() - start
        assert engine.process_id is not None
        await _answer(engine, "warm up")
        processes = family(engine.process_id)
        cpu_start = cpu_seconds(processes)
        answers = [await _answer(engine, f"Round {place}. {PROMPT}") for place in range(ROUNDS)]
        return [
            ready_seconds,
            median(a.first_seconds for a in answers),
            median(a.prompt_tokens / a.first_seconds for a in answers),
            median((a.completion_tokens - 1) / (a.total_seconds - a.first_seconds) for a in answers),
            (cpu_seconds(processes) - cpu_start) / ROUNDS,
            resident_bytes(processes) / 1e6,
        ]
    finally:
        await engine.stop()


async def _answer(engine: Engine, prompt: str) -> Answer:
    messages = [{"role": "user", "content": prompt}]
    body = {"messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True}
    start = time.perf_counter()
    reply = await engine.begin(Call(body, stream=True))
    try:
        first_seconds = time.perf_counter() - start
        while await reply.more():
            pass
        total_seconds = time.perf_counter() - start
    finally:
        await reply.close()
    assert reply.usage is not None, "llama.cpp's server counts"
    return Answer(first_seconds, total_seconds, reply.usage.prompt_tokens, reply.usage.completion_tokens)
