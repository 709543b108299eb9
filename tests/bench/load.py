"""The load: many clients of one gateway, in a process of its own, bounded in requests and in seconds.

`python -m tests.bench.load` reads a `Load` a line, as JSON, puts it on, and writes what it saw, a line each. Closed:
each of N clients asks again when it has its answer. Paced: a request is due at its appointed time whether or not the
earlier ones are answered, and is timed from then on, so that a gateway that falls behind cannot hide it.
"""

import asyncio
import gc
import sys
from collections import deque
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import cast

import httptools
import orjson
import uvloop

from tests.bench.wire import CHAT_PATH, CHUNKS, WORD

DRAIN_SECONDS = 30.0  # what is on its way when the time is up may still be answered; a slow gateway has 256 of them
SCRAPE_PAUSE_SECONDS = 0.1  # a hundred times as often as Prometheus would, as a run is that much shorter
PROBLEMS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, of whom, and how often. With a `rate`, `clients` is the most that wait at the same time."""

    port: int
    body: str
    key: str
    clients: int
    requests: int
    seconds: float
    rate: float | None = None
    streamed: bool = False
    scraped: bool = False

    @property
    def request(self) -> bytes:
        return _request("POST", CHAT_PATH, self.key, self.body.encode())


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back; times are None when nothing did.

    `first` is up to the first byte of the body, `stall` the longest wait between two pieces of it.
    """

    answered: int
    failed: int
    problems: tuple[str, ...]
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    first_p50_ms: float | None
    first_p99_ms: float | None
    stall_p50_ms: float | None
    stall_ms: float | None


def _request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection, one request at a time; a connection that the gateway closes is opened anew by the run."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._start: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, start: float) -> None:
        assert self._transport is not None
        self._start = start
        self._first: float | None = None
        self._last = 0.0
        self._stall = 0.0
        self._pieces: list[bytes] = []
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        if self._first is None:
            self._first = self._now
        elif self._now > self._last:
            self._stall = max(self._stall, self._now - self._last)
        self._last = self._now
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if self._start is None:
            return
        start, self._start = self._start, None
        first = self._now if self._first is None else self._first
        problem = self._run.problem(self._parser.get_status_code(), b"".join(self._pieces))
        reusable = self._parser.should_keep_alive()
        if not reusable and self._transport is not None:
            self._transport.close()
        self._run.answered(self if reusable else None, problem, (self._now - start, first - start, self._stall))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._run.lost(self, in_flight=self._start is not None)
        self._start = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Run:
    """One load from its first connection to its last answer."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = load.request
        self._idle: list[_Client] = []
        self._connections = 0
        self._due: deque[float] = deque()  # paced requests that found every client busy
        self._begun = 0
        self._ended = 0
        self._times: list[tuple[float, float, float]] = []
        self._problems: list[str] = []
        self._failed = 0
        self._finished = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def seen(self) -> Seen:
        loop = asyncio.get_running_loop()
        for _ in range(self._load.clients if self._load.rate is None else 1):
            self._idle.append(await self._connect())
        self._start = perf_counter()
        self._until = self._start + self._load.seconds
        scraping = loop.create_task(self._scrape()) if self._load.scraped else None
        if self._load.rate is None:
            for client in self._take_idle():
                self._again(client)
        else:
            await self._pace(self._load.rate)
        self._look_whether_finished()
        try:
            async with asyncio.timeout(self._load.seconds + DRAIN_SECONDS):
                await self._finished.wait()
        except TimeoutError:
            self._fail(f"not answered within {DRAIN_SECONDS:g} s", self._begun - self._ended)
        seconds = perf_counter() - self._start
        if scraping is not None:
            scraping.cancel()
            await asyncio.gather(scraping, return_exceptions=True)
        for client in self._idle:
            client.close()
        return self._summary(seconds)

    def problem(self, status: int, body: bytes) -> str | None:
        """What is wrong with an answer; None when nothing is."""
        if status != 200:
            return f"status {status}: {body[:200].decode(errors='replace')}"
        if not self._load.streamed:
            return None if b'"usage"' in body else "an answer without usage"
        chunks = body.count(WORD.encode())
        if chunks != CHUNKS:
            return f"{chunks} chunks instead of {CHUNKS}"
        return None if b"[DONE]" in body[-32:] else "a stream without its end"

    def answered(self, client: _Client | None, problem: str | None, times: tuple[float, float, float]) -> None:
        self._ended += 1
        if problem is None:
            self._times.append(times)
        else:
            self._fail(problem)
        if client is None:
            self._open_anew()
        else:
            self._next(client)

    def lost(self, client: _Client, *, in_flight: bool) -> None:
        if client in self._idle:
            self._idle.remove(client)
        self._connections -= 1
        if in_flight:
            self._ended += 1
            self._fail("the connection broke off")
            self._open_anew()

    def _next(self, client: _Client) -> None:
        if self._due:
            client.send(self._request, self._due.popleft())
        elif self._load.rate is None:
            self._again(client)
        else:
            self._idle.append(client)
        self._look_whether_finished()

    def _again(self, client: _Client) -> None:
        now = perf_counter()
        if self._begun < self._load.requests and now < self._until:
            self._begun += 1
            client.send(self._request, now)
        else:
            self._idle.append(client)

    async def _pace(self, rate: float) -> None:
        for place in range(self._load.requests):
            appointed = self._start + place / rate
            if appointed >= self._until:
                break
            await asyncio.sleep(max(0.0, appointed - perf_counter()))
            now = perf_counter()  # lateness of this process is not the gateway's
            self._begun += 1
            if self._idle:
                self._idle.pop().send(self._request, now)
            else:
                self._due.append(now)
                if self._connections < self._load.clients:
                    self._open_anew()
        self._until = 0.0

    def _look_whether_finished(self) -> None:
        none_to_begin = self._begun == self._load.requests or perf_counter() >= self._until
        if none_to_begin and self._ended == self._begun:
            self._finished.set()

    def _open_anew(self) -> None:
        async def open_one() -> None:
            try:
                self._next(await self._connect())
            except OSError as error:
                self._fail(str(error))
                self._look_whether_finished()

        task = asyncio.get_running_loop().create_task(open_one())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> _Client:
        self._connections += 1
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._load.port)
        return client

    def _take_idle(self) -> list[_Client]:
        taken, self._idle = self._idle, []
        return taken

    def _fail(self, problem: str, count: int = 1) -> None:
        self._failed += count
        if problem not in self._problems and len(self._problems) < PROBLEMS_SHOWN:
            self._problems.append(problem)

    async def _scrape(self) -> None:
        """What a monitoring system does beside the load; the answer is read and thrown away."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._load.port)
        request = _request("GET", "/metrics", self._load.key)
        while True:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            await reader.readexactly(int(fields[b"content-length"]))
            await asyncio.sleep(SCRAPE_PAUSE_SECONDS)

    def _summary(self, seconds: float) -> Seen:
        whole, first, stall = (sorted(1000 * times[place] for times in self._times) for place in range(3))
        return Seen(
            answered=len(self._times),
            failed=self._failed,
            problems=tuple(self._problems),
            seconds=seconds,
            p50_ms=_quantile(whole, 0.5),
            p99_ms=_quantile(whole, 0.99),
            first_p50_ms=_quantile(first, 0.5),
            first_p99_ms=_quantile(first, 0.99),
            stall_p50_ms=_quantile(stall, 0.5),
            stall_ms=_quantile(stall, 1),
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


async def put_on(load: Load) -> Seen:
    return await _Run(load).seen()


def main() -> None:
    """One load after another, until standard input ends. No garbage collection while one is measured."""
    gc.disable()
    for line in sys.stdin.buffer:
        seen = uvloop.run(put_on(Load(**orjson.loads(line))))
        sys.stdout.buffer.write(orjson.dumps(asdict(seen)) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
