"""Which worker gets a connection: the one that has the fewest. The supervisor accepts and hands the open socket over,
and keeps it, too, until the worker says that it has taken it: a worker may be dead already.

Were they all to accept from one queue, whoever wakes first would take a whole burst of connections and keep it for as
long as its clients keep them open, whatever the others have to do (EXPERIMENTS.md, 48).
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial

import structlog
import uvicorn

from gateway.protocol import Protocol

log = structlog.get_logger(__name__)

TAKEN, ENDED = 1, 2  # what a worker says of each connection; what comes with a socket says nothing
AT_ONCE = 64  # sockets that a worker takes in one turn of its loop, and a hundred times as many words that are heard
AGAIN_SECONDS = 0.01  # until a socket is offered again that no worker could take
NO_DESCRIPTORS_SECONDS = 1.0  # until one is free, maybe


@dataclass(slots=True, eq=False)
class _Room:
    """A worker, as the door sees it. `handed`: what it has not taken yet, and another must if it dies."""

    end: socket.socket
    held: int = 0
    handed: deque[socket.socket] = field(default_factory=deque)


class Door:
    """The supervisor's side; for its event loop. Closes *listener* with itself."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._rooms: dict[int, _Room] = {}
        self._waiting: set[socket.socket] = set()  # accepted, and handed to no worker yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def let_in(self, place: int, end: socket.socket) -> None:
        """From now on the worker at *place*, who has the other end of the pair of sockets, gets connections."""
        end.setblocking(False)
        self._rooms[place] = _Room(end)
        asyncio.get_running_loop().add_reader(end, self._hear, place)
        if not self._tasks and not self._closed:
            self._listener.setblocking(False)
            self._begin(self._accept())

    def shut(self, place: int) -> None:
        """The worker has ended, or never began. What it was handed and did not take goes to the others."""
        if (room := self._rooms.pop(place, None)) is not None:
            asyncio.get_running_loop().remove_reader(room.end)
            room.end.close()
            for connection in room.handed:
                if self._closed:
                    connection.close()
                else:
                    self._waiting.add(connection)
                    self._begin(self._hand_over(connection))

    async def close(self) -> None:
        """No connection is accepted any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._waiting:
            connection.close()
        self._listener.close()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="door")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except ConnectionError:
                continue  # it was given up before its turn
            except OSError as error:
                log.error("no connection can be accepted", error=str(error), again_in_seconds=NO_DESCRIPTORS_SECONDS)
                await asyncio.sleep(NO_DESCRIPTORS_SECONDS)
                continue
            await self._hand_over(connection)
            await asyncio.sleep(0)  # others have something to do in this loop, however many wait at the door

    async def _hand_over(self, connection: socket.socket) -> None:
        self._waiting.add(connection)
        while not self._handed_over(connection):  # noqa: ASYNC110  # a socket that is full offers no event
            await asyncio.sleep(AGAIN_SECONDS)
        self._waiting.remove(connection)

    def _handed_over(self, connection: socket.socket) -> bool:
        """False when each worker has died, or is behind with those that it was handed before."""
        for place, room in sorted(self._rooms.items(), key=lambda item: item[1].held):
            with contextlib.suppress(OSError):
                socket.send_fds(room.end, [b"\0"], [connection.fileno()])
                room.held += 1
                room.handed.append(connection)
                self._rooms[place] = self._rooms.pop(place)  # of two with as many it is the other's turn
                return True
        return False

    def _hear(self, place: int) -> None:
        room = self._rooms[place]
        try:
            words = room.end.recv(100 * AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if not words:
            return self.shut(place)
        room.held -= words.count(ENDED)
        for _ in range(words.count(TAKEN)):
            room.handed.popleft().close()


class Doorway:
    """A worker's side: *server* serves the connections that come out of *end*, until it closes this as its listener."""

    def __init__(self, end: socket.socket, server: uvicorn.Server) -> None:
        self._end = end
        self._server = server
        self._taking: set[asyncio.Task[None]] = set()
        self._untold = b""
        self._closed = False

    def open(self) -> None:
        """Call it when the server has started."""
        self._end.setblocking(False)
        asyncio.get_running_loop().add_reader(self._end, self._take)
        self._server.servers.append(self)  # type: ignore[arg-type]  # it says asyncio's own, and closes any

    def close(self) -> None:
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._end)

    async def wait_closed(self) -> None:
        """For the last of those that were taken."""
        if self._taking:
            await asyncio.wait(self._taking)
        if self._untold:
            asyncio.get_running_loop().remove_writer(self._end)
        self._end.close()

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                handed, descriptors, _, _ = socket.recv_fds(self._end, 1, 1)
            except BlockingIOError:
                return
            if not handed:  # the supervisor is gone, which is told in another way
                return self.close()
            self._tell(TAKEN)
            if not descriptors:  # we have as many as a process may
                log.error("a connection was lost: no descriptor is free")
                self._tell(ENDED)
            for descriptor in descriptors:
                task = asyncio.create_task(self._serve(socket.socket(fileno=descriptor)), name="take a connection")
                self._taking.add(task)
                task.add_done_callback(self._taking.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            _, protocol = await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # it has broken off
            connection.close()
            self._tell(ENDED)
            return
        if self._closed:  # meanwhile, and the server has already asked all others to end
            protocol.shutdown()

    def _protocol(self) -> Protocol:
        server = self._server
        return _Handed(
            partial(self._tell, ENDED),
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
        )

    def _tell(self, word: int) -> None:
        self._untold += bytes([word])
        if len(self._untold) == 1:  # else the loop is waiting to tell them all
            self._tell_all()

    def _tell_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            told = self._end.send(self._untold)
        except BlockingIOError:  # the supervisor is behind
            told = 0
        except OSError:  # it is gone, or we are about to be
            told = len(self._untold)
        self._untold = self._untold[told:]
        if self._untold:
            loop.add_writer(self._end, self._tell_all)
        elif self._end.fileno() >= 0:
            loop.remove_writer(self._end)


class _Handed(Protocol):
    def __init__(self, ended: Callable[[], None], **given: object) -> None:
        super().__init__(**given)  # type: ignore[arg-type]  # as uvicorn makes its own
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended()
