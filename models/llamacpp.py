"""Runs one GGUF model with llama.cpp in a process of its own, and brings it back when it dies.

Knows processes; the protocol towards the process is `models.upstream`, the process itself `models.llamacpp_process`.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from models.calls import CallingReply, demanding, tools_of
from models.catalog import Model
from models.engine import Call, EngineState, EngineUnavailable, Health, Reply
from models.upstream import OpenAIUpstream

log = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0  # a process that lived this long starts its back-off anew
STOP_TIMEOUT_SECONDS = 5.0
LOAD_TIMEOUT_SECONDS = 600.0  # a large file from a slow disk; 1.1 GB take three seconds from a warm one
PROMPT_CACHE_MIB = 512
# How long a thread that waits for the others keeps its core. Libgomp's own 300,000 makes two engines on the same cores
# twenty times slower, none makes one engine a third slower (EXPERIMENTS.md, 5).
SPIN_COUNT = "1000"
LOAD_FAILED_STATUS = 3  # models.llamacpp_process: the file or the memory is at fault, trying again soon is pointless


@dataclass(frozen=True, slots=True)
class Place:
    """Where a running llama.cpp server can be called, by any process of this machine that has its key."""

    address: str
    api_key: str


def upstream_at(model: Model, place: Place) -> OpenAIUpstream:
    return OpenAIUpstream(
        base_url=f"{place.address}/v1",
        name=model.name,
        api_key=place.api_key,
        running_counts={"timings_per_token": True},
    )


class LlamaCppEngine:
    """An Engine. One process per model: its crash is an error for the requests in it and nothing else."""

    def __init__(self, model: Model, path: Path, *, log_path: Path) -> None:
        self._model = model
        self._path = path
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._upstream: OpenAIUpstream | None = None
        self._place: Place | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._health = Health(EngineState.STOPPED)

    def health(self) -> Health:
        return self._health

    @property
    def place(self) -> Place | None:
        """Where it can be called now; None when nowhere."""
        return self._place if self._upstream else None

    @property
    def process_id(self) -> int | None:
        """The engine's process, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        self._health = Health(EngineState.STARTING, "the model is being loaded")
        self._keeper = asyncio.create_task(self._keep_running(), name=f"keep {self._model.name}")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        await self._end_process()
        self._health = Health(EngineState.STOPPED)

    async def begin(self, call: Call) -> Reply:
        upstream = self._upstream
        if upstream is None:
            raise EngineUnavailable(f"{self._model.name} cannot be called now: it is {self._health.state}")
        return await begin_at(upstream, call)

    async def _keep_running(self) -> None:
        backoff_seconds = FIRST_BACKOFF_SECONDS
        restarts = 0
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            reason = await self._run_once(restarts)
            restarts += 1
            if clock() - started > HEALTHY_AFTER_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            failed = reason is not None
            state = EngineState.FAILED if failed else EngineState.RESTARTING
            detail = reason or f"its process ended; it is started again in {backoff_seconds:g} s"
            self._health = Health(state, detail, restarts)
            log.warning("engine ended", model=self._model.name, detail=detail, log=str(self._log_path))
            await asyncio.sleep(LONGEST_BACKOFF_SECONDS if failed else backoff_seconds)
            backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)

    async def _run_once(self, restarts: int) -> str | None:
        """Start the process and wait for its end. Returns why it cannot work, None when it may simply be restarted."""
        try:
            place = await self._launch()
        except _LoadFailed as error:
            await self._end_process()
            return str(error)
        except OSError as error:  # no process can be had, or its log cannot be written
            return f"llama.cpp cannot be started: {error}"
        if place is None:
            self._process = None
            return None
        self._place, self._upstream = place, upstream_at(self._model, place)
        self._health = Health(EngineState.READY, restarts=restarts)
        log.info("engine ready", model=self._model.name, process_id=self.process_id)
        assert self._process is not None
        await self._process.wait()
        await self._hang_up()
        self._process = None
        return None

    async def _launch(self) -> Place | None:
        """Where the server can be called; None when a signal ended it while it loaded.

        Raises _LoadFailed, OSError.
        """
        if not self._path.is_file():
            raise _LoadFailed(f"{self._path} is missing; fetch it with: pointsman models pull {self._model.name}")
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a folder called models where the gateway was started is not ours
                "-m",
                "models.llamacpp_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C is for the gateway, which ends its engines after its answers
                env={**os.environ, "GOMP_SPINCOUNT": SPIN_COUNT},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        api_key = secrets.token_urlsafe(32)  # loopback is open to every user of the machine
        self._process.stdin.write(json.dumps(self.process_settings(api_key)).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(self._process.stdout.readline(), LOAD_TIMEOUT_SECONDS)
        except TimeoutError:
            raise _LoadFailed(f"llama.cpp was not ready in {LOAD_TIMEOUT_SECONDS:g} s: see {self._log_path}") from None
        reply = json.loads(answer) if answer.endswith(b"\n") else {}
        if "address" in reply:
            return Place(reply["address"], api_key)
        status = await self._process.wait()
        if status < 0:
            return None
        cause = "could not load the model" if status == LOAD_FAILED_STATUS else f"ended with status {status}"
        remedy = f"check the file with: pointsman models verify {self._model.name}"
        if self._model.memory_limit_bytes:
            remedy += f"; or raise its memory_limit_bytes, now {self._model.memory_limit_bytes}"
        raise _LoadFailed(f"llama.cpp {cause}: see {self._log_path}; {remedy}")

    def process_settings(self, api_key: str) -> dict[str, object]:
        """What `models.llamacpp_process` reads; a pure function of the catalogue row but for the key."""
        return {
            "path": str(self._path),
            "model": self._model.name,
            "api_key": api_key,
            "port": 0,  # whichever is free
            "parallel": self._model.parallel,
            "context_tokens": self._model.context_tokens,
            "batch_tokens": self._model.batch_tokens,
            "threads": self._model.threads or os.cpu_count() or 1,
            "prompt_cache_mib": PROMPT_CACHE_MIB,
            "memory_limit_bytes": self._model.memory_limit_bytes,
        }

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        await self._hang_up()
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()  # the process ends when its input does
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _hang_up(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            await upstream.stop()


async def begin_at(upstream: OpenAIUpstream, call: Call) -> Reply:
    """The reply of a llama.cpp server, whose models are small: calls of tools are demanded, and read, with care."""
    tools = tools_of(call)
    if not tools:
        return await upstream.begin(call)
    reply = await upstream.begin(replace(call, body=demanding(call.body, tools)))
    return await CallingReply.begin(reply, call, tools)


class _LoadFailed(Exception):
    """The engine cannot work until somebody changes something."""
