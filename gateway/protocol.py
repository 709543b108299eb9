"""The HTTP server's protocol: uvicorn's, whose cycle of one request and its response is written anew.

It speaks ASGI like uvicorn's own and does less for it: a response's head leaves with what follows it and is checked as
a whole, not field by field. Whole responses that are ready in the same turn of the event loop leave together at its
end: the fewer times the loop looks for news, the less a request costs. Parts of a stream leave at once: somebody reads
them (EXPERIMENTS.md, 18). Connections, parsing, keep-alive, pipelining and shutdown are uvicorn's.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEAD = b"HTTP/1.1 "
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSING = b"connection: close\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BODYLESS = frozenset({204, 304})
NOTHING = cast(bytearray, b"")  # what is added to it, mostly a whole body, is not copied
WAITING_LIMIT_BYTES = 64 * 1024  # beyond it the event loop's own buffer tells whoever writes to wait


class Protocol(HttpToolsProtocol):
    """Give it to uvicorn as `http`. Knows no WebSocket, no limit of connections, and no path but from the root."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, _Gathering(cast(asyncio.Transport, transport), self.loop)))

    def on_headers_complete(self) -> None:
        scope, parser, url = self.scope, self.parser, httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = parser.get_http_version()
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before, self.cycle = self.cycle, _Cycle(self)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # sent before the answer to an earlier one is whole
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))


class _Cycle(RequestResponseCycle):
    """One request and its response. Its protocol looks at what uvicorn's own has, under the same names."""

    def __init__(self, protocol: Protocol) -> None:
        self.scope = protocol.scope
        self.transport: Any = protocol.transport  # a _Gathering
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.on_response = protocol.on_response_complete
        self.message_event = asyncio.Event()
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.keep_alive = self.scope["http_version"] != "1.0" and protocol.parser.should_keep_alive()
        self.disconnected = False
        self.body = NOTHING
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self._head = b""  # until a part of the body comes
        self._has_body = self._is_chunked = False
        self._left_bytes = 0  # of a body whose length the head has told

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.waiting_for_100_continue = False
            self.transport.write(CONTINUE)
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, NOTHING
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            assert not self.response_started, "a second head of one response"
            self._start(message["status"], message.get("headers", ()))
        else:
            assert self.response_started, "a body before its head"
            assert not self.response_complete, "more after the end of a response"
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        self._has_body = self.scope["method"] != "HEAD" and status not in BODYLESS
        lines = [STATUS_LINE[status]]
        is_framed = False
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                is_framed = True
                self._left_bytes = int(value)
        if not self.keep_alive:
            lines.append(CLOSING)
        if self._has_body and not is_framed:
            self._is_chunked = True
            lines.append(CHUNKED)
        lines.append(b"\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines) or b"\0" in head:
            raise ValueError("a field of the response's head would end its line")
        self._head = head

    def _write(self, part: bytes, *, more: bool) -> None:
        head, self._head = self._head, b""
        write = self.transport.write_at_once if more else self.transport.write
        if self._is_chunked:
            chunk = b"%b%x\r\n%b\r\n" % (head, len(part), part) if part else head
            write(chunk if more else chunk + LAST_CHUNK)
        elif self._has_body:
            self._left_bytes -= len(part)
            if self._left_bytes < 0 or (self._left_bytes and not more):
                raise ValueError("the response is not as long as its head says")
            write(head + part if head else part)
        elif head:
            write(head)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


class _Gathering:
    """A transport on which what begins with a head, and what is written behind it meanwhile, waits for the end of the
    event loop's turn. Everything else is the transport's own.
    """

    __slots__ = ("_loop", "_transport", "_waiting", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._waiting:
            self._waiting += data
            if len(self._waiting) > WAITING_LIMIT_BYTES:
                self._flush()
        elif data.startswith(HEAD) and len(data) < WAITING_LIMIT_BYTES:
            self._waiting = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def write_at_once(self, data: bytes) -> None:
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + len(self._waiting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, b""
        if waiting:
            self._transport.write(waiting)
