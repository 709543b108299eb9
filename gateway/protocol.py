"""The HTTP server's protocol: uvicorn's, but the head of an answer leaves together with what follows it at once.

uvicorn writes the head and the body apart, and uvloop sends each as it comes: two packets and two system calls
(EXPERIMENTS.md, 8).
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = b"HTTP/1.1 "


class Protocol(HttpToolsProtocol):
    """Give it to uvicorn as `http`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, _Gathering(cast(asyncio.Transport, transport), self.loop)))


class _Gathering:
    """A transport on which a head waits for the end of the event loop's turn, and with it what is written meanwhile.
    Everything else is the transport's own.
    """

    __slots__ = ("_loop", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self._waiting:
            self._waiting.append(data)
        elif data.startswith(HEAD):
            self._loop.call_soon(self._flush)
            self._waiting.append(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._waiting))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = []
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
