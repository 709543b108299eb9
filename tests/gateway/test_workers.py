"""`pointsman serve` with two workers, as processes: they count, charge and refuse as one, and end as one."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.fakes import FakeUpstream
from tests.gateway.tracing.collector import collecting
from tests.gateway.wire import CHAT, chat
from tests.processes import alive, children, until
from tests.real.server import Server, environment, serving

pytestmark = pytest.mark.anyio

FILE = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 1000, price: {input_usd: 0.1, output_usd: 0.2}}
  - {name: large, engine: scripted, tier: 1, context_tokens: 2000, price: {input_usd: 0, output_usd: 1000000}}
aliases: {}
"""
START_SECONDS = 60.0
BACK_SECONDS = 30.0
EVERYWHERE = 24  # connections, over which each worker gets its share
REQUESTS_OK = {"model": "large", "outcome": "ok"}


@contextmanager
def two_workers(folder: Path, text: str = FILE) -> Iterator[Server]:
    (folder / "pointsman.yaml").write_text(text, encoding="utf-8")
    settings = {"POINTSMAN_CONFIG": str(folder / "pointsman.yaml"), "POINTSMAN_WORKERS": "2"}
    with serving(folder, settings) as server:
        until(lambda: "Ctrl-C ends everything" in server.output or ended(server), START_SECONDS, "the greeting")
        yield server


def ended(server: Server) -> bool:
    return server.process.poll() is not None


def make_key(folder: Path, *options: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "create", "ann", *options],
        env=environment(folder, {"POINTSMAN_CONFIG": str(folder / "pointsman.yaml")}),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(maxsplit=1) for line in made.stdout.splitlines()[:3])["key"]


def connecting(server: Server, key: str | None = None) -> httpx2.AsyncClient:
    """A client that opens a connection for each request, which any worker may take."""
    return httpx2.AsyncClient(
        base_url=server.base_url,
        headers=bearer(key or server.key),
        limits=httpx2.Limits(max_keepalive_connections=0),
        timeout=30,
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def statuses(client: httpx2.AsyncClient, count: int, at_once: int, **fields: object) -> Counter[int]:
    """How *count* requests were answered; 0 for a connection that broke off."""
    places = asyncio.Semaphore(at_once)

    async def ask() -> int:
        async with places:
            try:
                return (await client.post(CHAT, json=chat("large", **fields))).status_code
            except httpx2.TransportError:
                return 0

    return Counter(await asyncio.gather(*(ask() for _ in range(count))))


async def everywhere(client: httpx2.AsyncClient, path: str) -> list[str]:
    """What the workers say, each at least once."""
    answers = await asyncio.gather(*(client.get(path) for _ in range(EVERYWHERE)))
    assert {answer.status_code for answer in answers} == {200}
    return [answer.text for answer in answers]


def journals(server: Server) -> set[int]:
    """The processes that have answered something."""
    return {int(path.name.partition("-")[0]) for path in (server.folder / "data" / "journal").glob("*.jsonl")}


def restarted(server: Server) -> Callable[[], bool]:
    return lambda: server.metric("pointsman_worker_restarts_total") == 1 and server.metric("pointsman_workers") == 2


async def test_two_workers_count_and_charge_as_one_and_end_as_one(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        assert (server.output.count("is ready at"), len(server.keys())) == (1, 1)
        async with connecting(server) as client:
            assert await statuses(client, 200, at_once=16) == {200: 200}
            assert journals(server) == children(server.process.pid)
            until(lambda: len(server.charges()) == 200, BACK_SECONDS, "every charge is in the ledger")
            for text in await everywhere(client, "/metrics"):
                assert 'pointsman_requests_total{model="large",outcome="ok"} 200.0' in text
                assert 'pointsman_request_seconds_count{model="large"} 200.0' in text
                assert 'pointsman_cost_usd_total{model="large"} 200.0' in text
                assert 'pointsman_engine_up{model="large"} 1.0' in text
                assert "pointsman_workers 2.0" in text
        assert server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.log


async def test_connections_that_are_opened_at_once_and_kept_are_shared_out(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        kept = httpx2.Limits(max_connections=8)
        async with httpx2.AsyncClient(base_url=server.base_url, headers=bearer(server.key), limits=kept) as client:
            assert await statuses(client, 400, at_once=8) == {200: 400}
        files = (server.folder / "data" / "journal").glob("*.jsonl")
        written = [len(path.read_bytes().splitlines()) for path in files]
        assert len(written) == 2
        assert min(written) > sum(written) / 4, "each has half the connections"
        assert server.stop() == 0


async def test_a_budget_holds_over_all_workers(tmp_path: Path) -> None:
    """Each answer costs a dollar, and the key may spend ten."""
    with two_workers(tmp_path) as server:
        async with connecting(server, make_key(tmp_path, "--budget-day", "10")) as client:
            seen = await statuses(client, 100, at_once=100, max_tokens=1)
            assert seen == {200: 10, 429: 90}
            assert len(journals(server)) == 2
        assert server.stop(signal.SIGTERM) == 0


async def test_a_killed_worker_comes_back_and_nothing_that_was_counted_or_charged_is_lost(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        async with connecting(server) as client:
            before = await statuses(client, 100, at_once=16)
            assert before == {200: 100}
            victim = min(children(server.process.pid))
            load = asyncio.create_task(statuses(client, 400, at_once=16))
            counted = [server.metric("pointsman_requests_total", **REQUESTS_OK)]
            os.kill(victim, signal.SIGKILL)
            while not (load.done() and restarted(server)()):
                assert not ended(server)
                counted.append(await asyncio.to_thread(server.metric, "pointsman_requests_total", **REQUESTS_OK))
            during = await load
            assert during[200] + during[0] == 400
            assert during[0] <= 16, "only what the victim was answering broke off"
            assert counted == sorted(counted)
            assert await statuses(client, 50, at_once=16) == {200: 50}
            answered = 100 + during[200] + 50
            assert server.metric("pointsman_requests_total", **REQUESTS_OK) >= answered
            until(lambda: sum(c["outcome"] == "ok" for c in server.charges()) >= answered, BACK_SECONDS, "all charged")
            assert server.metric("pointsman_requests_in_flight") == 0
        assert victim not in children(server.process.pid)
        assert server.stop() == 0


async def test_a_reload_is_for_all_workers_or_for_none(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        admin = {"authorization": f"Bearer {make_key(tmp_path, '--role', 'admin')}"}  # before any worker reads the keys
        path = tmp_path / "pointsman.yaml"
        path.write_text(FILE.replace("aliases: {}", "aliases: {gpt-4o: large}\nbar: '0.9'"), encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.metric("pointsman_reloads_total", result="ok") > 0, BACK_SECONDS, "reloaded")
        async with connecting(server) as client:
            assert all('"gpt-4o"' in text for text in await everywhere(client, "/v1/models"))
            path.write_text(FILE.replace("aliases: {}", "aliases: {gpt-4o: nobody}"), encoding="utf-8")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.metric("pointsman_reloads_total", result="refused") > 0, BACK_SECONDS, "refused")
            assert all('"gpt-4o"' in text for text in await everywhere(client, "/v1/models"))

            os.kill(min(children(server.process.pid)), signal.SIGKILL)
            until(restarted(server), BACK_SECONDS, "it is back, though the file is wrong")
            assert all('"gpt-4o"' in text for text in await everywhere(client, "/v1/models"))

            path.write_text(FILE.replace("aliases: {}", "aliases: {other: large}"), encoding="utf-8")
            asked = await client.post("/admin/reload", headers=admin)
            assert asked.status_code == 200, asked.text
            assert all('"other"' in text for text in await everywhere(client, "/v1/models"))
        assert server.stop() == 0


async def test_an_answer_that_has_begun_is_ended_before_its_worker_is(tmp_path: Path) -> None:
    rest = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with FakeUpstream(head, event("one "), rest, event("two"), b"data: [DONE]\n\n") as engine:
        row = f"{{name: far, engine: openai, tier: 2, context_tokens: 1000, base_url: '{engine.base_url}'}}"
        with two_workers(tmp_path, FILE.replace("aliases", f"  - {row}\naliases")) as server:
            asked = chat("far", stream=True)
            async with connecting(server) as client, client.stream("POST", CHAT, json=asked) as answer:
                pieces = answer.aiter_text()
                assert "one " in await anext(pieces)
                server.process.send_signal(signal.SIGINT)
                await asyncio.to_thread(until, lambda: not accepts(server), BACK_SECONDS, "no more are accepted")
                rest.set()
                assert "[DONE]" in "".join([piece async for piece in pieces])
            assert await asyncio.to_thread(server.process.wait, BACK_SECONDS) == 0
            assert [(charge["outcome"], charge["status"]) for charge in server.charges()] == [("ok", 200)]


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "model": "far", "choices": [choice]}) + b"\n\n"


def accepts(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port)).close()
    except OSError:
        return False
    return True


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        server.process.kill()
        until(lambda: not any(map(alive, workers)), BACK_SECONDS, "the workers end")


def test_workers_that_cannot_start_are_told_and_leave_nothing(tmp_path: Path) -> None:
    """The limits' Redis has no such port."""
    with two_workers(tmp_path, FILE + "redis_url: redis://127.0.0.1:door\n") as server:
        started = children(server.process.pid)
        assert server.process.wait(START_SECONDS) == 1
        assert not any(map(alive, started))
    assert "a worker could not be started" in server.log
    assert "is ready" not in server.output


async def test_each_worker_sends_its_spans_and_the_last_ones_when_it_ends(tmp_path: Path) -> None:
    with collecting() as collector:
        with two_workers(tmp_path, f"{FILE}tracing: {{endpoint: '{collector.url}'}}\n") as server:
            async with connecting(server) as client:
                assert await statuses(client, EVERYWHERE, 4) == {200: EVERYWHERE}
            assert server.stop() == 0
        assert len({one["service.instance.id"] for one in collector.resources}) == 2
        names = Counter(span.name for span in collector.spans)
        assert names == {f"POST {CHAT}": EVERYWHERE, "decide": EVERYWHERE, "chat large": EVERYWHERE}
