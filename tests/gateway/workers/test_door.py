"""Connections are spread over the workers, and none is lost while one of them can still come to take it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from gateway.protocol import Protocol
from gateway.workers.door import ENDED, TAKEN, Door, Doorway
from tests.processes import until

pytestmark = pytest.mark.anyio

SETTLE_SECONDS = 10.0


class Taker:
    """A worker that takes what it is handed when it is told to, and nothing else."""

    def __init__(self) -> None:
        self.ours, self.end = socket.socketpair()
        self.end.settimeout(SETTLE_SECONDS)
        self.taken: list[socket.socket] = []

    async def take(self, count: int) -> None:
        for _ in range(count):
            _, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, self.end, 1, 1)
            self.taken.extend(socket.socket(fileno=descriptor) for descriptor in descriptors)
            self.end.send(bytes([TAKEN]))

    async def take_what_comes(self, count: int, others: "Taker") -> None:
        """Until all takers together have *count*."""
        self.end.settimeout(0.1)
        while len(self.taken) + len(others.taken) < count:
            try:
                await self.take(1)
            except TimeoutError:
                await asyncio.sleep(0)

    def end_one(self) -> None:
        self.taken.pop().close()
        self.end.send(bytes([ENDED]))

    def close(self) -> None:
        self.end.close()
        for connection in self.taken:
            connection.close()


class Outside:
    """Clients of a listener."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.clients: list[socket.socket] = []

    def connect(self, count: int) -> None:
        self.clients.extend(socket.create_connection(self.listener.getsockname(), SETTLE_SECONDS) for _ in range(count))


@asynccontextmanager
async def a_door(*takers: Taker) -> AsyncIterator[tuple[Door, Outside]]:
    outside = Outside()
    door = Door(outside.listener)
    for place, taker in enumerate(takers):
        door.let_in(place, taker.ours)
    try:
        yield door, outside
    finally:
        await door.close()
        for place, taker in enumerate(takers):
            door.shut(place)
            taker.close()
        for client in outside.clients:
            client.close()


@pytest.mark.parametrize(("workers", "connections"), [(2, 2), (2, 8), (2, 16), (3, 21), (5, 100)])
async def test_a_burst_is_spread_evenly(workers: int, connections: int) -> None:
    takers = [Taker() for _ in range(workers)]
    async with a_door(*takers) as (_, outside):
        outside.connect(connections)
        await asyncio.gather(*(taker.take(connections // workers) for taker in takers))
        assert sum(len(taker.taken) for taker in takers) == connections - connections % workers


async def test_who_has_fewer_left_gets_the_next_ones() -> None:
    busy, idle = Taker(), Taker()
    async with a_door(busy, idle) as (_, outside):
        outside.connect(12)
        await asyncio.gather(busy.take(6), idle.take(6))
        for _ in range(4):
            idle.end_one()
        await asyncio.sleep(0.05)  # heard of
        outside.connect(6)  # 6 and 2 become 7 and 7
        await asyncio.gather(busy.take(1), idle.take(5))
        assert (len(busy.taken), len(idle.taken)) == (7, 7)


async def test_a_dead_worker_gets_none_whether_that_is_known_or_not() -> None:
    dead, alive = Taker(), Taker()
    async with a_door(dead, alive) as (door, outside):
        dead.end.close()
        outside.connect(3)
        await alive.take(3)
        door.shut(0)
        outside.connect(3)
        await alive.take(3)
        assert len(alive.taken) == 6


async def test_what_a_worker_died_with_before_it_took_it_goes_to_another() -> None:
    dying, alive = Taker(), Taker()
    async with a_door(dying, alive) as (_, outside):
        outside.connect(10)
        for number, client in enumerate(outside.clients):
            client.send(b"%d" % number)
        await dying.take(2)
        await asyncio.sleep(0.05)  # the other three are handed over
        dying.end.close()
        await alive.take(8)
        told = {connection.recv(1) for connection in (*dying.taken, *alive.taken)}
        assert told == {b"%d" % number for number in range(10)}


async def test_a_connection_waits_while_no_worker_lives() -> None:
    first, second = Taker(), Taker()
    async with a_door(first) as (door, outside):
        first.end.close()
        door.shut(0)
        outside.connect(5)
        await asyncio.sleep(0.05)
        door.let_in(1, second.ours)
        await second.take(5)
        door.shut(1)
        second.close()


async def test_more_than_the_workers_can_be_handed_at_once_wait_and_none_is_lost() -> None:
    """The queue of a pair of sockets holds some hundreds of descriptors."""
    slow, slower = Taker(), Taker()
    slow.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    slower.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with a_door(slow, slower) as (_, outside):
        outside.connect(100)
        await asyncio.sleep(0.1)  # nobody takes any
        await asyncio.gather(slow.take_what_comes(100, slower), slower.take_what_comes(100, slow))
        assert len(slow.taken) + len(slower.taken) == 100


async def test_after_its_end_nobody_is_let_in() -> None:
    async with a_door(Taker()) as (door, outside):
        address = outside.listener.getsockname()
        await door.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, SETTLE_SECONDS)


async def hello(scope: dict[str, object], receive: object, send: object) -> None:
    assert scope["type"] == "http"
    assert callable(send)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def a_worker(end: socket.socket) -> AsyncIterator[uvicorn.Server]:
    server = uvicorn.Server(uvicorn.Config(hello, http=Protocol, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server._serve([]))  # without its signal handlers
    while not server.started:  # noqa: ASYNC110  # uvicorn offers no event
        await asyncio.sleep(0.01)
    Doorway(end, server).open()
    try:
        yield server
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, SETTLE_SECONDS)


async def said(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is kept, after one answer."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
    return reader, writer


async def test_workers_answer_through_the_door_and_say_when_a_connection_has_ended() -> None:
    (ours, end), (other_ours, other_end) = socket.socketpair(), socket.socketpair()
    outside = Outside()
    door = Door(outside.listener)
    async with a_worker(end) as one, a_worker(other_end) as other:
        door.let_in(0, ours)
        door.let_in(1, other_ours)
        address = outside.listener.getsockname()

        def held() -> tuple[int, int]:
            return len(one.server_state.connections), len(other.server_state.connections)

        kept = [await said(address) for _ in range(8)]
        assert held() == (4, 4)
        for _, writer in kept[::2]:  # all those of one worker
            writer.close()
        await asyncio.to_thread(until, lambda: sum(held()) == 4, SETTLE_SECONDS, "ended")
        await asyncio.sleep(0.05)  # heard of
        kept += [await said(address) for _ in range(4)]
        assert held() == (4, 4)

        idle, silent = await asyncio.open_connection(*address)  # taken, and nothing is said on it
        await asyncio.sleep(0.05)
        await door.close()
    assert await idle.read() == b"", "the workers end, and do not wait for who says nothing"
    for writer in (silent, *(writer for _, writer in kept)):
        writer.close()
    door.shut(0)
    door.shut(1)


async def test_what_a_worker_could_not_tell_at_once_it_tells_later() -> None:
    """Nobody hears it meanwhile; the queue of a pair of sockets is soon full of single words."""
    ours, end = socket.socketpair()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    outside = Outside()
    async with a_worker(end):
        for _ in range(200):
            client = socket.create_connection(outside.listener.getsockname(), SETTLE_SECONDS)
            with client, outside.listener.accept()[0] as connection:
                socket.send_fds(ours, [b"\0"], [connection.fileno()])
            await asyncio.sleep(0.002)
        ours.settimeout(SETTLE_SECONDS)
        heard = b""
        while len(heard) < 400:
            heard += await asyncio.to_thread(ours.recv, 100)
        assert (heard.count(TAKEN), heard.count(ENDED)) == (200, 200)
    ours.close()
    outside.listener.close()
