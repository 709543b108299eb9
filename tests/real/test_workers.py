"""Two workers and one real engine: loaded once, called by both, brought back for both, and ended with them."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from models.catalog import BUILTIN_CATALOG
from tests.processes import alive, children, until
from tests.real.server import RESTART_TIMEOUT_SECONDS, STOP_TIMEOUT_SECONDS, TINY, Server, serving

pytestmark = pytest.mark.real

SETTINGS = {"POINTSMAN_MODELS": TINY, "POINTSMAN_WORKERS": "2"}
AT_ONCE = 8


def tiny_alone(parallel: int) -> str:
    """A catalogue of one model, with so many places."""
    document = yaml.safe_load(BUILTIN_CATALOG.read_text(encoding="utf-8"))
    [row] = [row for row in document["models"] if row["name"] == TINY]
    return yaml.safe_dump({"models": [{**row, "parallel": parallel}]})


def say_a_word(server: Server) -> bool:
    answer = server.client.chat.completions.create(
        model=TINY, messages=[{"role": "user", "content": "Say one word."}], max_tokens=2
    )
    return bool(answer.choices[0].message.content)


def test_a_model_is_loaded_once_and_answers_through_both_workers(tmp_path: Path) -> None:
    with serving(tmp_path, SETTINGS) as server:
        server.wait_until_ready()
        started = children(server.process.pid)
        engine = server.engine_process(TINY)
        assert len(started) == 3, "two workers and one engine"
        assert engine in started

        with ThreadPoolExecutor(AT_ONCE) as threads:
            assert all(threads.map(lambda _: say_a_word(server), range(4 * AT_ONCE)))
        answering = {int(path.name.partition("-")[0]) for path in (tmp_path / "data" / "journal").glob("*.jsonl")}
        assert answering == started - {engine}
        assert server.metric("pointsman_requests_total", model=TINY, outcome="ok") == 4 * AT_ONCE

        os.kill(engine, signal.SIGKILL)
        until(lambda: server.metric("pointsman_engine_restarts", model=TINY) == 1, RESTART_TIMEOUT_SECONDS, "told")
        server.wait_until_back(TINY)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            assert all(threads.map(lambda _: say_a_word(server), range(2 * AT_ONCE)))
        assert server.stop() == 0


def test_a_killed_supervisor_takes_its_workers_and_engines_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, SETTINGS) as server:
        server.wait_until_ready()
        started = children(server.process.pid)
        server.process.kill()
        until(lambda: not any(map(alive, started)), STOP_TIMEOUT_SECONDS, "workers and engine end")


def test_a_reload_starts_an_engine_for_all_and_ends_the_one_that_is_replaced(tmp_path: Path) -> None:
    rows = tmp_path / "catalog.yaml"
    rows.write_text(tiny_alone(parallel=2), encoding="utf-8")
    with serving(tmp_path / "gateway", {**SETTINGS, "POINTSMAN_CATALOG": str(rows)}) as server:
        server.wait_until_ready()
        old = server.engine_process(TINY)
        workers = children(server.process.pid) - {old}
        rows.write_text(tiny_alone(parallel=4), encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.metric("pointsman_reloads_total", result="ok") >= 1, RESTART_TIMEOUT_SECONDS, "reloaded")
        until(lambda: not alive(old), RESTART_TIMEOUT_SECONDS, "the replaced engine ends")
        assert children(server.process.pid) == workers | {server.engine_process(TINY)}
        assert say_a_word(server)
        assert server.stop() == 0
