"""Servers that do anything a server may do with a connection: one of bytes over loopback, and one without sockets.

`RawServer` runs a script per connection. `WiredLoop` gives the client a `Wire` instead of a connection, so that a test
decides which bytes come together.
"""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextvars import Context
from types import TracebackType
from typing import Any, Self, TypeVarTuple

from tests.fakes import Received

Ts = TypeVarTuple("Ts")
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> Received:
        """The next request. Raises asyncio.IncompleteReadError when the client leaves instead."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Received(request_line, headers, await self._reader.readexactly(int(headers.get("content-length", 0))))

    async def head(self) -> None:
        """Read the head of a request and leave its body unread."""
        await self._reader.readuntil(b"\r\n\r\n")

    async def send(self, *pieces: bytes) -> None:
        """Each of *pieces* is written for itself, and the client has a chance to read it for itself."""
        for piece in pieces:
            if self._writer.is_closing():
                raise ConnectionAbortedError("the client has left")
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def push(self, data: bytes) -> None:
        """Write without waiting for a client that does not read."""
        self._writer.write(data)

    @property
    def unsent_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def until_left(self) -> None:
        """Returns when the client has closed its end, whatever it sent before."""
        try:
            while await self._reader.read(64 * 1024):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        descriptor = os.dup(self._writer.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


class RawServer:
    """Plays *script* on each connection, then closes it. A client that leaves early ends the script, and is no error.

    `peers` are the connections so far, the first one first.
    """

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._host = host
        self._tls = tls
        self._playing: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for script in self._playing:
            script.cancel()
        ends = await asyncio.gather(*self._playing, return_exceptions=True)
        await self._server.wait_closed()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_idle(self) -> None:
        """Returns when every script has come to its end."""
        await asyncio.gather(*self._playing)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._playing.add(asyncio.create_task(self._play(reader, writer)))

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Wire(asyncio.Transport):
    """The client's end of a connection that is none: what it wrote is in `written`, what it hears is up to the test."""

    def __init__(self, protocol: asyncio.Protocol, unwritten_bytes: int) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unwritten_bytes = unwritten_bytes
        self.written = b""
        self.paused = False
        self.ended = False
        protocol.connection_made(self)

    def hear(self, data: bytes) -> None:
        assert not self.paused, "what a paused transport has is not delivered"
        if not self.ended:
            self._protocol.data_received(data)

    def end(self, error: Exception | None = None) -> None:
        """The server closes the connection, or resets it with *error*."""
        if self.ended:
            return
        if error is None:
            self._protocol.eof_received()
        self._lose(error)

    def write(self, data: Any) -> None:
        assert not self.ended, "written to a closed connection"
        self.written += bytes(data)

    def abort(self) -> None:
        self._lose(None)

    def close(self) -> None:
        self._lose(None)

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return self._unwritten_bytes

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def _lose(self, error: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self._loop.call_soon(self._protocol.connection_lost, error)


class WiredLoop(asyncio.SelectorEventLoop):
    """Connects to nowhere. `wires` are the connections so far, `alarms` the timers; `unwritten_bytes` never get out."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[Wire] = []
        self.unwritten_bytes = 0
        self.alarms: list[asyncio.TimerHandle] = []

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        protocol = protocol_factory()
        self.wires.append(Wire(protocol, self.unwritten_bytes))
        return self.wires[-1], protocol

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self.alarms.append(super().call_at(when, callback, *args, context=context))
        return self.alarms[-1]
