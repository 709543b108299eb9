"""Runs one model's server in a process of its own, and brings it back when it dies: the one way for every local engine.

The process reads its settings as one JSON line on standard input, and answers one on standard output: `address` once
the model can be called, `error` when it never will be. It ends when its standard input closes, so it cannot outlive the
gateway. Knows processes; the protocol towards the server is `models.upstream`, which server it is a `Program` knows.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
import structlog

from models.calls import CallingReply, demanding, tools_of
from models.catalog import Model
from models.engine import Call, EngineState, EngineUnavailable, Health, Reply
from models.upstream import RUNNING_COUNTS, OpenAIUpstream
from models.vllm.readings import Reader, Readings

log = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0  # a process that lived this long starts its back-off anew
STOP_TIMEOUT_SECONDS = 5.0
LOAD_TIMEOUT_SECONDS = 600.0  # a large file from a slow disk; 1.1 GB take three seconds from a warm one

# How the server of each engine is asked to count as it goes.
COUNTS_OF = {"llamacpp": "llamacpp", "vllm": "vllm", "transformers": "vllm"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a running server can be called, by any process of this machine that has its key."""

    address: str
    api_key: str


@dataclass(frozen=True, slots=True)
class Launch:
    """What starts a server; *environment* is laid over ours."""

    command: tuple[str, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


class CannotLaunch(Exception):
    """The engine cannot work until somebody changes something; the message says what."""


class Program(Protocol):
    """A server that can be launched for a catalogue's row. `name` is the operator's for it."""

    name: str

    def launch(self, api_key: str) -> Launch:
        """May read files and start interpreters. Raises CannotLaunch."""

    def remedy(self, error: str) -> str:
        """What an operator may do about what the process said, or about a status that it ended with."""


def upstream_at(model: Model, place: Place) -> OpenAIUpstream:
    return OpenAIUpstream(
        base_url=f"{place.address}/v1",
        name=model.name,
        api_key=place.api_key,
        running_counts=RUNNING_COUNTS[COUNTS_OF.get(model.engine, "last")],
    )


def reader_at(model: Model, place: Place) -> Reader | None:
    """Who asks the server of *model* for what it says of itself; None where it says nothing."""
    return Reader(place.address) if model.engine == "vllm" else None


async def begin_at(model: Model, upstream: OpenAIUpstream, call: Call) -> Reply:
    """The reply of *model*'s server. Those of llama.cpp are small: calls of tools are demanded, and read, with care."""
    tools = tools_of(call) if model.engine == "llamacpp" else {}
    if not tools:
        return await upstream.begin(call)
    reply = await upstream.begin(replace(call, body=demanding(call.body, tools)))
    return await CallingReply.begin(reply, call, tools)


class ProcessEngine:
    """An Engine. One process per model: its crash is an error for the requests in it and nothing else."""

    def __init__(self, model: Model, program: Program, *, log_path: Path) -> None:
        self._model = model
        self._program = program
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._upstream: OpenAIUpstream | None = None
        self._place: Place | None = None
        self._reader: Reader | None = None
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
        return await begin_at(self._model, upstream, call)

    async def readings(self) -> Readings | None:
        """What the server says of itself; None while it says nothing."""
        return None if self._reader is None else await self._reader.read()

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
        except CannotLaunch as error:
            await self._end_process()
            return str(error)
        except OSError as error:  # no process can be had, or its log cannot be written
            return f"{self._program.name} cannot be started: {error}"
        if place is not None:
            self._place, self._upstream = place, upstream_at(self._model, place)
            self._reader = reader_at(self._model, place)
            self._health = Health(EngineState.READY, restarts=restarts)
            log.info("engine ready", model=self._model.name, process_id=self.process_id)
            assert self._process is not None
            await self._process.wait()
            await self._hang_up()
        self._kill_group()
        self._process = None
        return None

    async def _launch(self) -> Place | None:
        """Where the server can be called; None when a signal ended it while it loaded.

        Raises CannotLaunch, OSError.
        """
        api_key = secrets.token_urlsafe(32)  # loopback is open to every user of the machine
        launch = await anyio.to_thread.run_sync(self._program.launch, api_key)
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                *launch.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C is for the gateway, which ends its engines after its answers
                env={**os.environ, **launch.environment},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(launch.settings).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(self._process.stdout.readline(), LOAD_TIMEOUT_SECONDS)
        except TimeoutError:
            raise CannotLaunch(
                f"{self._program.name} was not ready in {LOAD_TIMEOUT_SECONDS:g} s: see {self._log_path}"
            ) from None
        reply = json.loads(answer) if answer.endswith(b"\n") else {}
        if "address" in reply:
            return Place(reply["address"], api_key)
        status = await self._process.wait()
        if status < 0 and "error" not in reply:
            return None
        error = str(reply.get("error", f"ended with status {status}"))
        raise CannotLaunch(f"{self._program.name}: {error}; {self._program.remedy(error)}; see {self._log_path}")

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
            _kill_group_of(process)
            await process.wait()

    def _kill_group(self) -> None:
        """Whatever a process that died has left behind."""
        if self._process is not None:
            _kill_group_of(self._process)

    async def _hang_up(self) -> None:
        upstream, self._upstream = self._upstream, None
        reader, self._reader = self._reader, None
        if upstream is not None:
            await upstream.stop()
        if reader is not None:
            await reader.close()


def _kill_group_of(process: asyncio.subprocess.Process) -> None:
    """The process leads a session of its own, so that its group is what it has started, and nothing else."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
