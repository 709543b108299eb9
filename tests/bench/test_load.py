"""The measuring itself: a load asks as often as it says, and takes no broken answer for an answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.bench import mock_engine
from tests.bench.gateway import AT_ONCE, SHORT, SPACED
from tests.bench.load import Load, put_on
from tests.bench.wire import CHUNKS, MODEL

PLAIN, STREAM, SPACED_STREAM = (ask.body(MODEL) for ask in (SHORT, AT_ONCE, SPACED))


@asynccontextmanager
async def engine() -> AsyncIterator[int]:
    """The mock engine in this event loop; gives its port."""
    transports: list[asyncio.Transport] = []

    class Connection(mock_engine.Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transports.append(self._transport)

    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for transport in transports:  # a client's end may not have been seen yet when the loop is closed
        transport.abort()
    await asyncio.sleep(0)


def load(port: int, body: str = PLAIN, *, streamed: bool = False, rate: float | None = None) -> Load:
    return Load(port=port, body=body, key="key", clients=4, requests=20, seconds=30, rate=rate, streamed=streamed)


@pytest.mark.anyio
@pytest.mark.parametrize("rate", [None, 1000.0])
@pytest.mark.parametrize(("body", "streamed"), [(PLAIN, False), (STREAM, True), (SPACED_STREAM, True)])
async def test_a_load_asks_as_often_as_it_says(body: str, streamed: bool, rate: float | None) -> None:
    async with engine() as port:
        seen = await put_on(load(port, body, streamed=streamed, rate=rate))
    assert (seen.answered, seen.failed) == (20, 0), seen.problems


@pytest.mark.anyio
async def test_a_load_begins_nothing_when_its_time_is_up() -> None:
    async with engine() as port:
        seen = await put_on(Load(port=port, body=PLAIN, key="key", clients=4, requests=20, seconds=0))
    assert (seen.answered, seen.failed, seen.p50_ms) == (0, 0, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda answer: answer.replace(b"200 OK", b"500 NO"), "status 500"),
        (lambda answer: answer.replace(b"answer 7", b"ANSWER 7"), f"{CHUNKS - 1} chunks instead of {CHUNKS}"),
        (lambda answer: answer.replace(b"[DONE]", b"[GONE]"), "a stream without its end"),
    ],
)
async def test_a_broken_stream_is_no_answer(
    spoil: Callable[[bytes], bytes], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mock_engine, "AT_ONCE", spoil(mock_engine.AT_ONCE))
    async with engine() as port:
        seen = await put_on(load(port, STREAM, streamed=True))
    assert (seen.answered, seen.failed) == (0, 20)
    assert problem in seen.problems[0]


@pytest.mark.anyio
async def test_a_connection_that_breaks_off_is_a_failure_and_the_load_goes_on() -> None:
    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.close()

    server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
    async with server:
        seen = await put_on(load(server.sockets[0].getsockname()[1]))
    assert (seen.answered, seen.failed, seen.problems) == (0, 20, ("the connection broke off",))


def test_the_plain_answer_is_as_long_as_an_ordinary_one() -> None:
    assert 1500 < len(mock_engine.WHOLE.partition(b"\r\n\r\n")[2]) < 2000
