"""`pointsman serve` as its users run it: a process of its own, with the real models behind a real port."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes import unused_port
from tests.processes import alive, children, until

SMALL, LARGE = "qwen2.5-coder-0.5b-instruct-q4_k_m", "qwen2.5-coder-1.5b-instruct-q4_k_m"
TINY = "smollm2-135m-instruct-q4_1"
EMBEDDER = "wordllama-l2-256"
READY_TIMEOUT_SECONDS = 110.0  # two models from a cold disk on two busy cores; pytest gives a test 120 s
STOP_TIMEOUT_SECONDS = 40.0  # its own limits: 10 s for answers, 5 s for each engine
CALL_TIMEOUT_SECONDS = 100.0
SETTLE_TIMEOUT_SECONDS = 10.0  # from the end of a request to its line in the ledger
RESTART_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """A started `pointsman serve`. `folder` holds its data and what it wrote; see `serving`."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return (self.folder / "stdout").read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    @cached_property
    def key(self) -> str:
        """The key that the greeting shows."""
        shown = re.search(r"never again: (pm-[\w-]{43})", self.output)
        assert shown is not None, self.output
        return shown[1]

    @cached_property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.base_url}/v1", api_key=self.key, max_retries=0, timeout=CALL_TIMEOUT_SECONDS)

    def wait_until_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> float:
        """Returns the seconds that took."""
        try:
            return until(self._is_ready, timeout_seconds, "the greeting")
        except AssertionError:
            raise AssertionError(f"not ready: {self.output}{self.log}") from None

    def stop(self, stopping: signal.Signals = signal.SIGINT) -> int:
        """Its exit status after *stopping*. Fails when a process that it started is left."""
        started = children(self.process.pid) | {process_id for _, process_id in self._engines}
        self.process.send_signal(stopping)
        status = self.process.wait(STOP_TIMEOUT_SECONDS)
        assert not [left for left in started if alive(left)]
        return status

    def engine_process(self, model: str) -> int:
        """The process that runs *model* now, or ran it last."""
        return [process_id for name, process_id in self._engines if name == model][-1]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urlopen(self.base_url + path, timeout=CALL_TIMEOUT_SECONDS) as response:
                return 200, str(response.read(), "utf-8")
        except HTTPError as error:
            with error:
                return error.code, str(error.read(), "utf-8")

    def metric(self, name: str, **labels: str) -> float:
        """The value that a scraper reads now, 0 when there is none yet."""
        samples = (s for family in text_string_to_metric_families(self.get("/metrics")[1]) for s in family.samples)
        return sum(s.value for s in samples if s.name == name and s.labels == labels)

    def loads(self) -> bool:
        """Its engines have been started."""
        return bool(children(self.process.pid))

    def wait_until_back(self, model: str, timeout_seconds: float = RESTART_TIMEOUT_SECONDS) -> float:
        """Returns the seconds until *model* can be called again."""
        return until(lambda: self.metric("pointsman_engine_up", model=model) == 1, timeout_seconds, f"{model} is back")

    def charges(self) -> list[dict[str, Any]]:
        """The ledger's lines, oldest first, once the database has what the journal has."""
        if self.process.poll() is None:
            until(lambda: self.metric("pointsman_ledger_waiting_charges") == 0, SETTLE_TIMEOUT_SECONDS, "the ledger")
        return self._rows("SELECT * FROM charges ORDER BY at")

    def keys(self) -> list[dict[str, Any]]:
        return self._rows("SELECT * FROM keys")

    @contextmanager
    def one_charge(self) -> Iterator[dict[str, Any]]:
        """After the block, the yielded dictionary is the line of the one request in it; fails when there is not one."""
        before = {charge["id"] for charge in self.charges()}
        charge: dict[str, Any] = {}
        yield charge
        until(lambda: len(self.charges()) > len(before), SETTLE_TIMEOUT_SECONDS, "a charge")
        until(lambda: self.metric("pointsman_requests_in_flight") == 0, SETTLE_TIMEOUT_SECONDS, "all requests end")
        new = [line for line in self.charges() if line["id"] not in before]
        assert len(new) == 1, new
        charge.update(new[0])

    @property
    def _engines(self) -> list[tuple[str, int]]:
        """Every engine that became ready so far: its model and its process."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [(line["model"], line["process_id"]) for line in lines if line["event"] == "engine ready"]

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "it ended"
        return "Ctrl-C ends everything" in self.output  # the greeting's last line

    def _rows(self, query: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.folder / "data" / "pointsman.db")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query)]


@contextmanager
def serving(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start `pointsman serve` with its data in *folder*, which an earlier one may have used, and with the weights that
    this user has already; *settings* are further environment variables. Killed on leaving, if nobody has stopped it.
    """
    port = unused_port()
    folder.mkdir(exist_ok=True)
    with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment(folder, {"POINTSMAN_PORT": str(port), **(settings or {})}),
        )
    server = Server(process, folder, port)
    try:
        yield server
    finally:
        if process.poll() is None:
            started = children(process.pid)
            process.kill()
            process.wait()
            with suppress(AssertionError):  # the test has failed already; only do not disturb the next
                until(lambda: not any(map(alive, started)), STOP_TIMEOUT_SECONDS, "its engines end")
        if "client" in server.__dict__:
            server.client.close()


def environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """That of the tests, without the settings of whoever runs them but for where the weights are."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_") or k == "POINTSMAN_CACHE_DIR"}
    return {**kept, "POINTSMAN_DATA_DIR": str(folder / "data"), **settings}
