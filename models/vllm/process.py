"""The process between the gateway and vLLM's server: `python -m models.vllm.process`.

vLLM has no word for "end when whoever started you is gone" and none for "the first request will work". This process
has: it starts the server, waits until it is healthy, asks it one thing, says where it is, and ends it, and all that it
started, when its own standard input closes. Needs the standard library alone, so that it runs in any Python.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from typing import IO, Any

from models.vllm.diagnosis import ADDRESS_IN_USE, SPARSE_ACTIVE, diagnosis_of

POLL_SECONDS = 0.25
PROBE_TIMEOUT_SECONDS = 300.0  # the first request compiles what is compiled lazily: 9 s were seen for log-probabilities
END_SECONDS = 3.0  # less than the keeper's patience, so that the server's processes end before ours is killed
LOG_LINES = 400  # kept to say what went wrong; a trace of vLLM's has a hundred
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: between fork and exec little may be done

# Makes a token of each kind: text, and log-probabilities, which are compiled apart.
PROBE = {"prompt": "Hello", "max_tokens": 2, "temperature": 0, "logprobs": 1}


class Server:
    """vLLM's, by its command line in *settings*; see `models.vllm.program`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.address = f"http://127.0.0.1:{settings['port']}"
        self._settings = settings
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._sparse_active = threading.Event()
        self._process = subprocess.Popen(  # noqa: S603  # what our own pure function wrote
            settings["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings["environment"]},
            preexec_fn=_die_with_parent,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def wait_until_it_answers(self) -> str | None:
        """Why it never will; None once it does."""
        while self._process.poll() is None:
            if self._is_healthy():
                refused = self._probe()
                return refused if refused is None or self._process.poll() is None else self._why()
            time.sleep(POLL_SECONDS)
        return self._why()

    def wait(self) -> None:
        """Until it ends, which it does by itself when its engine has died."""
        self._process.wait()

    def end(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    @property
    def lost_its_port(self) -> bool:
        return any(ADDRESS_IN_USE.search(line) for line in tuple(self._lines))

    def _read(self, output: IO[bytes]) -> None:
        """Pass the log on, and remember the end of it."""
        for raw in output:
            sys.stderr.buffer.write(raw)
            sys.stderr.buffer.flush()
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            if SPARSE_ACTIVE in line:
                self._sparse_active.set()

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as response:  # noqa: S310  # loopback
                return bool(response.status == 200)
        except OSError:
            return False

    def _probe(self) -> str | None:
        """One request, since some kernels are looked for only then. Why there is no answer; None where there is one."""
        body = json.dumps({**PROBE, "model": self._settings["model"]}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._settings['api_key']}"}
        request = urllib.request.Request(f"{self.address}/v1/completions", body, headers)  # noqa: S310  # loopback
        try:
            with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_SECONDS) as response:  # noqa: S310
                json.load(response)["choices"][0]["text"]
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace")
            return self._why(f"it is healthy and refuses the first request: {error.code} {said}")
        except (OSError, ValueError, LookupError) as error:
            return self._why(f"it is healthy and does not answer the first request: {error}")
        if self._settings["sparse"] and not self._sparse_active.wait(POLL_SECONDS):
            return (
                "it serves with dense attention, though the row has a budget: the plugin of models.sparse is not active"
            )
        return None

    def _why(self, otherwise: str | None = None) -> str:
        if self._process.poll() is not None:
            self._reader.join(END_SECONDS)  # the last lines
        time.sleep(POLL_SECONDS)  # the engine's own process tells after its front end
        told = diagnosis_of(tuple(self._lines))
        return f"{otherwise}: {told}" if otherwise else told


def main() -> None:
    """Serve until standard input closes, or the server ends."""
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    settings["port"] = _free_port()
    settings["argv"] = [str(settings["port"]) if part == "PORT" else part for part in settings["argv"]]
    server = Server(settings)
    global _running
    _running = server
    refused = server.wait_until_it_answers()
    if refused is None:
        print(json.dumps({"address": server.address}), flush=True)
        server.wait()
    elif not server.lost_its_port:  # else somebody took it meanwhile: the keeper starts us again
        print(json.dumps({"error": refused}), flush=True)
    server.end()
    _end_all()


_running: Server | None = None


def _end_with_input() -> None:
    while sys.stdin.read(4096):
        pass
    if _running is not None:
        _running.end()
    _end_all()


def _end_all() -> None:
    """Ours is the group of all that was started: vLLM's engine and workers are processes of their own."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.killpg(0, signal.SIGKILL)


def _die_with_parent() -> None:
    """In the child, before vLLM: where we are killed and can end nothing, the kernel does."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
