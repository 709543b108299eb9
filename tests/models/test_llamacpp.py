"""One engine and its process, with the smallest real model: how it fails, ends, and comes back."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from gateway.settings import load_settings
from models import llamacpp, process
from models.catalog import Model, load_catalog
from models.engine import Call, EngineState, EngineUnavailable, Health, Reply
from models.llamacpp import LlamaCpp
from models.process import ProcessEngine
from models.store import ModelStore
from tests.processes import alive, until

pytestmark = [pytest.mark.real, pytest.mark.anyio]

TINY = load_catalog().models["smollm2-135m-instruct-q4_1"]
STATE_TIMEOUT_SECONDS = 30.0
END_TIMEOUT_SECONDS = 10.0
HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4, "temperature": 0}

# Starts an engine of the weights argv[1], logging to argv[2], says its process id and waits to be killed.
PARENT = """
import asyncio, sys
from pathlib import Path
from tests.models.test_llamacpp import TINY, running, until_state
from models.engine import EngineState

async def main():
    async with running(Path(sys.argv[1]), Path(sys.argv[2])) as engine:
        await until_state(engine, EngineState.READY)
        print("process", engine.process_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def weights() -> Path:
    assert TINY.file is not None
    return ModelStore(load_settings().cache_dir / "models").pull(TINY.file)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


@asynccontextmanager
async def running(path: Path, log: Path, model: Model = TINY) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(model, LlamaCpp(model, path), log_path=log)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def until_state(engine: ProcessEngine, *states: EngineState) -> Health:
    """Its health once it is in one of *states*."""
    async with asyncio.timeout(STATE_TIMEOUT_SECONDS):
        while engine.health().state not in states:  # noqa: ASYNC110  # an engine offers no event
            await asyncio.sleep(0.01)
    return engine.health()


async def answer(engine: ProcessEngine) -> Reply:
    """A whole one, which has ended."""
    reply = await engine.begin(Call(HELLO))
    await reply.close()
    return reply


# It works


async def test_it_answers_and_counts(weights: Path, log: Path) -> None:
    async with running(weights, log) as engine:
        await until_state(engine, EngineState.READY)
        reply = await answer(engine)

    assert orjson.loads(reply.first)["choices"][0]["message"]["content"]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 0
    assert 0 < reply.usage.completion_tokens <= 4
    assert reply.engine_seconds is not None
    assert reply.engine_seconds > 0


async def test_its_settings_follow_from_the_catalogue_row_alone() -> None:
    row = TINY.model_copy(update={"threads": 3, "parallel": 5, "batch_tokens": 7})
    program = LlamaCpp(row, Path("weights"))

    assert program.settings("key") == program.settings("key")
    assert program.settings("key") == {
        "path": "weights",
        "model": TINY.name,
        "api_key": "key",
        "port": 0,
        "parallel": 5,
        "context_tokens": TINY.context_tokens,
        "batch_tokens": 7,
        "threads": 3,
        "prompt_cache_mib": llamacpp.PROMPT_CACHE_MIB,
        "memory_limit_bytes": TINY.memory_limit_bytes,
    }


# It cannot work, and says why


async def test_a_truncated_file_is_reported_with_the_way_to_check_it(weights: Path, log: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated"
    with weights.open("rb") as whole:
        truncated.write_bytes(whole.read(TINY.file.size_bytes // 2 if TINY.file else 0))

    detail = await _failure(truncated, log)
    assert f"pointsman models verify {TINY.name}" in detail
    assert str(log) in detail


async def test_a_missing_file_is_reported_with_the_way_to_fetch_it(log: Path, tmp_path: Path) -> None:
    detail = await _failure(tmp_path / "nothing", log)

    assert f"{tmp_path / 'nothing'} is missing" in detail
    assert f"pointsman models pull {TINY.name}" in detail


async def test_a_memory_limit_too_small_is_named(weights: Path, log: Path) -> None:
    detail = await _failure(weights, log, TINY.model_copy(update={"memory_limit_bytes": 100_000_000}))

    assert "raise its memory_limit_bytes, now 100000000" in detail


async def test_a_process_that_cannot_be_started_is_a_failure_like_the_others(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    detail = await _failure(weights, tmp_path / "file" / "engine.log")

    assert "cannot be started" in detail


async def _failure(path: Path, log: Path, model: Model = TINY) -> str:
    """What the operator reads; a client that calls the engine learns none of it. Nothing is left running."""
    async with running(path, log, model) as engine:
        health = await until_state(engine, EngineState.FAILED, EngineState.READY)
        assert health.state is EngineState.FAILED
        assert engine.process_id is None
        with pytest.raises(EngineUnavailable) as refused:
            await answer(engine)
        assert "/" not in refused.value.message
    return health.detail


# It ends


async def test_stopping_ends_the_process(weights: Path, log: Path) -> None:
    async with running(weights, log) as engine:
        await until_state(engine, EngineState.READY)
        process_id = engine.process_id
        assert process_id is not None
        await engine.stop()

        assert not alive(process_id)
        assert engine.process_id is None
        assert engine.health().state is EngineState.STOPPED
        with pytest.raises(EngineUnavailable):
            await answer(engine)
        await engine.stop()  # safe to call twice


async def test_stopping_while_the_model_loads_ends_the_process(weights: Path, log: Path) -> None:
    async with running(weights, log) as engine:
        async with asyncio.timeout(STATE_TIMEOUT_SECONDS):
            while (process_id := engine.process_id) is None:  # noqa: ASYNC110  # an engine offers no event
                await asyncio.sleep(0)
        assert engine.health().state is EngineState.STARTING
        await engine.stop()

    assert not alive(process_id)


def test_the_process_does_not_outlive_a_parent_that_is_killed(weights: Path, log: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(weights), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process_id = next(int(line.split()[1]) for line in parent.stdout if line.startswith("process "))
        assert alive(process_id)
        parent.kill()

    until(lambda: not alive(process_id), END_TIMEOUT_SECONDS, "the engine's process ends with its parent")


# It comes back


async def test_a_process_that_dies_is_started_again(weights: Path, log: Path) -> None:
    async with running(weights, log) as engine:
        await until_state(engine, EngineState.READY)
        first = _kill(engine)
        health = await until_state(engine, EngineState.RESTARTING)
        assert "started again in 0.5 s" in health.detail
        with pytest.raises(EngineUnavailable):
            await answer(engine)

        health = await until_state(engine, EngineState.READY)
        assert health.restarts == 1
        assert engine.process_id not in (None, first)
        assert orjson.loads((await answer(engine)).first)["choices"]


async def test_the_wait_doubles_to_its_cap_and_begins_anew_after_a_long_life(
    weights: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(process, "LONGEST_BACKOFF_SECONDS", 0.03)
    waits = []
    async with running(weights, log) as engine:
        for long_life_seconds in (60.0, 60.0, 60.0, 60.0, 0.0):  # every process of this test has lived longer than 0 s
            monkeypatch.setattr(process, "HEALTHY_AFTER_SECONDS", long_life_seconds)
            await until_state(engine, EngineState.READY)
            _kill(engine)
            waits.append((await until_state(engine, EngineState.RESTARTING)).detail.split()[-2])

    assert waits == ["0.01", "0.02", "0.03", "0.03", "0.01"]


def _kill(engine: ProcessEngine) -> int:
    process_id = engine.process_id
    assert process_id is not None
    os.kill(process_id, signal.SIGKILL)
    return process_id


async def test_killed_while_it_loads_it_is_started_again(weights: Path, log: Path) -> None:
    async with running(weights, log) as engine:
        async with asyncio.timeout(STATE_TIMEOUT_SECONDS):
            while engine.process_id is None:  # noqa: ASYNC110  # an engine offers no event
                await asyncio.sleep(0.001)
        os.kill(engine.process_id, signal.SIGKILL)
        await until_state(engine, EngineState.RESTARTING)
        health = await until_state(engine, EngineState.READY, EngineState.FAILED)

    assert (health.state, health.restarts) == (EngineState.READY, 1)


async def test_a_load_that_hangs_is_ended(weights: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOAD_TIMEOUT_SECONDS", 0.001)
    async with running(weights, log) as engine:
        health = await until_state(engine, EngineState.FAILED)
        assert "not ready in 0.001 s" in health.detail
        assert engine.process_id is None
