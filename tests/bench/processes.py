"""Starting a measured program as our child, waiting until it answers, and ending it with everything it started."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

START_TIMEOUT_SECONDS = 120.0  # LiteLLM takes half a minute here
STOP_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.02
ANSWER_TIMEOUT_SECONDS = 5.0
LOG_TAIL_CHARACTERS = 600
PASSED_ON = ("PATH", "LANG", "LC_ALL", "HOME")  # what a peer has of our environment: no key of a provider, no proxy


class DidNotStart(Exception):
    """The program ended, or did not answer in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    process_id: int
    ready_seconds: float


@asynccontextmanager
async def running(
    command: Sequence[str], *, port: int, ready_path: str, log: Path, environment: Mapping[str, str]
) -> AsyncIterator[Running]:
    """The program from its first answer 200 on. Raises DidNotStart."""
    start = perf_counter()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # so that all of it can be ended, and Ctrl-C reaches only us
        )
    try:
        await _until_ready(process, port, ready_path, log)
        yield Running(process.pid, perf_counter() - start)
    finally:
        await _end(process)


async def status_of(port: int, path: str) -> int | None:
    """The status of a GET on loopback; None when nobody answers."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
                return int((await reader.readuntil(b"\r\n")).split()[1])
            finally:
                writer.close()
    return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def own_program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


async def _until_ready(process: asyncio.subprocess.Process, port: int, path: str, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            while await status_of(port, path) != 200:
                if process.returncode is not None:
                    raise DidNotStart(f"ended with {process.returncode}: {_tail(log)}")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DidNotStart(f"no answer at {path} within {START_TIMEOUT_SECONDS:g} s: {_tail(log)}") from None


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-LOG_TAIL_CHARACTERS:]


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_SECONDS)
