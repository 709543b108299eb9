"""The process between the gateway and vLLM's server, kept by the keeper of all engines, with a stand-in for vLLM."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from models.catalog import Model
from models.engine import Call, EngineState, Health
from models.process import Launch, ProcessEngine
from tests.processes import alive, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
FOLDER = {"sha256": "0123456789abcdef" * 4, "size_bytes": 1, "sources": [{"folder": "/m"}]}
ROW = Model.model_validate({"name": "m", "engine": "vllm", "tier": 0, "context_tokens": 100, "checkpoint": FOLDER})
STATE_TIMEOUT_SECONDS = 60.0
END_TIMEOUT_SECONDS = 20.0


class Fake:
    """A Program that starts the stand-in in the way *how*."""

    name = "vLLM"

    def __init__(self, how: str, *, sparse: bool = False) -> None:
        self._how = how
        self._sparse = sparse

    def launch(self, api_key: str) -> Launch:
        settings = {
            "argv": [sys.executable, "-m", "tests.models.vllm.fake_server", self._how, "--port", "PORT"],
            "environment": {"VLLM_API_KEY": api_key, "PYTHONPATH": str(ROOT)},
            "model": "m",
            "api_key": api_key,
            "sparse": self._sparse,
        }
        return Launch((sys.executable, "-P", "-m", "models.vllm.process"), settings)

    def remedy(self, error: str) -> str:
        return "the remedy"


@asynccontextmanager
async def kept(folder: Path, how: str, *, sparse: bool = False) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(ROW, Fake(how, sparse=sparse), log_path=folder / "log")
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def until_state(engine: ProcessEngine, *states: EngineState) -> Health:
    async with asyncio.timeout(STATE_TIMEOUT_SECONDS):
        while engine.health().state not in states:  # noqa: ASYNC110  # an engine offers no event
            await asyncio.sleep(0.01)
    return engine.health()


def worker_of(folder: Path) -> int:
    """The newest process that the stand-in has started, as vLLM starts its engine."""
    return int(re.findall(r"^worker (\d+)$", (folder / "log").read_text(encoding="utf-8"), re.MULTILINE)[-1])


async def test_it_is_ready_once_it_has_answered_and_ends_with_all_it_started(tmp_path: Path) -> None:
    async with kept(tmp_path, "works") as engine:
        await until_state(engine, EngineState.READY)
        reply = await engine.begin(Call({"messages": []}))
        assert orjson.loads(reply.first)["choices"][0]["text"] == "Hi"
        await reply.close()
        ours, worker = engine.process_id, worker_of(tmp_path)
        assert ours is not None
        await engine.stop()

        assert engine.health().state is EngineState.STOPPED
        until(lambda: not alive(ours) and not alive(worker), END_TIMEOUT_SECONDS, "all of it has ended")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("has no memory", "GPU's memory does not suffice.*gpu_memory_share"),
        ("dies at the first request", "does not answer the first request|kernel is missing"),
        ("refuses the first request", "healthy and refuses the first request: 400 .*no such model"),
    ],
)
async def test_what_never_will_work_is_a_failure_with_its_cause(tmp_path: Path, how: str, told: str) -> None:
    async with kept(tmp_path, how) as engine:
        health = await until_state(engine, EngineState.FAILED, EngineState.READY)

        assert health.state is EngineState.FAILED
        assert re.search(told, health.detail)
        assert "the remedy" in health.detail
        assert str(tmp_path / "log") in health.detail
        assert engine.process_id is None


async def test_a_kernel_that_is_missing_at_the_first_request_is_named(tmp_path: Path) -> None:
    async with kept(tmp_path, "dies at the first request") as engine:
        health = await until_state(engine, EngineState.FAILED, EngineState.READY)

        assert re.search("kernel is missing for this dtype.*cpu_gemm_wna16.*bfloat16", health.detail)


async def test_dense_attention_where_sparse_was_asked_for_is_a_failure(tmp_path: Path) -> None:
    async with kept(tmp_path, "works", sparse=True) as engine:
        health = await until_state(engine, EngineState.FAILED, EngineState.READY)

        assert "plugin of models.sparse is not active" in health.detail


async def test_sparse_attention_that_says_so_is_ready(tmp_path: Path) -> None:
    async with kept(tmp_path, "is sparse", sparse=True) as engine:
        assert (await until_state(engine, EngineState.FAILED, EngineState.READY)).state is EngineState.READY


async def test_a_port_that_somebody_took_meanwhile_is_tried_again(tmp_path: Path) -> None:
    async with kept(tmp_path, "finds its port taken") as engine:
        health = await until_state(engine, EngineState.RESTARTING, EngineState.FAILED)

        assert health.state is EngineState.RESTARTING


async def test_a_server_that_dies_is_started_again_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    async with kept(tmp_path, "works") as engine:
        await until_state(engine, EngineState.READY)
        worker = worker_of(tmp_path)
        assert engine.process_id is not None
        os.kill(engine.process_id, signal.SIGKILL)
        await until_state(engine, EngineState.RESTARTING)
        until(lambda: not alive(worker), END_TIMEOUT_SECONDS, "what the dead one started has ended")
        health = await until_state(engine, EngineState.READY)

        assert health.restarts == 1


async def test_stopping_while_it_loads_ends_it(tmp_path: Path) -> None:
    async with kept(tmp_path, "hangs") as engine:
        log = tmp_path / "log"
        async with asyncio.timeout(STATE_TIMEOUT_SECONDS):
            while not log.exists() or "worker" not in log.read_text(encoding="utf-8"):  # noqa: ASYNC110  # a file
                await asyncio.sleep(0.01)
        worker = worker_of(tmp_path)
        await engine.stop()

        until(lambda: not alive(worker), END_TIMEOUT_SECONDS, "all of it has ended")


def test_it_does_not_outlive_a_gateway_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from tests.models.vllm.test_process import kept, until_state, worker_of
from models.engine import EngineState

async def main():
    folder = Path({str(tmp_path)!r})
    async with kept(folder, "works") as engine:
        await until_state(engine, EngineState.READY)
        print("process", worker_of(folder), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        worker = next(int(line.split()[1]) for line in parent.stdout if line.startswith("process "))
        assert alive(worker)
        parent.kill()

    until(lambda: not alive(worker), END_TIMEOUT_SECONDS, "vLLM's processes end with the gateway")
