"""Stand-ins for what is outside the project. They do what they are told, and fail loudly when asked something new."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

Step = bytes | float | asyncio.Event  # write these bytes; pause for so many seconds; wait until it is set


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire. Header names are in lower case."""

    request_line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class FakeUpstream:
    """A TCP server on loopback that answers each connection's one request with *reply*, byte for byte, then closes.

    `requests` are those received. `hung_up` is set when a client closes its connection before the reply has been played
    to its end.
    """

    def __init__(self, *reply: Step) -> None:
        self.reply: Sequence[Step] = reply
        self.requests: list[Received] = []
        self.hung_up = asyncio.Event()
        self._arrival = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def until_asked(self, times: int = 1) -> None:
        """Returns when so many requests have been received."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= times)

    async def until_idle(self) -> None:
        """Returns when no connection is open any more."""
        await asyncio.gather(*self._connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        ends = await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            async with self._arrival:
                self.requests.append(request)
                self._arrival.notify_all()
            if await self._play(reader, writer):
                self.hung_up.set()
        finally:
            writer.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the client left before the end."""
        playing = asyncio.create_task(_write(self.reply, writer))
        listening = asyncio.create_task(reader.read())  # ends with the client's side of the connection
        try:
            await asyncio.wait({playing, listening}, return_when=asyncio.FIRST_COMPLETED)
            return not playing.done() or isinstance(playing.exception(), ConnectionError)
        finally:
            playing.cancel()
            listening.cancel()
            await asyncio.gather(playing, listening, return_exceptions=True)


def unused_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def _read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Received(request_line, headers, await reader.readexactly(int(headers["content-length"])))


async def _write(reply: Sequence[Step], writer: asyncio.StreamWriter) -> None:
    for step in reply:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
                await asyncio.sleep(0)  # lets the client read this step before the next
            case asyncio.Event():
                await step.wait()
            case float():
                await asyncio.sleep(step)
