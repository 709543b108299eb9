"""A client for HTTP/1.1, for the path of every request: kept connections to one origin, bytes passed on as they come.

Knows connections, framing and time limits; llhttp (through httptools) reads the wire. Does not know what is asked or
answered: no redirects, cookies, proxies, retries or content codings. The number of connections is limited by whoever
asks: each request in progress has one.

HttpError
 +- ConnectFailed  no connection came about: refused, unknown name, wrong certificate, or too slow
 +- Disconnected   the server closed or reset the connection before the end of its answer
 +- ProtocolError  what the server sent is not HTTP/1.1 as the standard has it
 +- TimedOut       nothing came in the time given
 +- TooLong        the body is longer than the caller takes
"""

import asyncio
import math
import re
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

UNREAD_LIMIT_BYTES = 64 * 1024  # of body: the server waits until some is read; of anything else: no server needs more
IDLE_SECONDS = 4.0  # uvicorn and llama.cpp's server close after 5: a request must not cross their goodbye
KEEP_ALIVE_MARGIN_SECONDS = 1.0  # under what the server announces, for the same reason
CONNECT_TIMEOUT_SECONDS = 5.0  # loopback or one data centre: a slower connect means nobody is there
IDLE_CONNECTIONS = 64  # kept for the next burst; file descriptors are the price
KNOWN_HEADS = 64  # request heads kept ready; paths are few, and one that holds an id must not fill the memory

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5: above all, no line end
_TARGET = re.compile(r"/[\x21-\x22\x24-\x7e]*")  # origin-form without fragment
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?:^|[\s,])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_FRAMING = frozenset({"content-length", "transfer-encoding"})  # a body with neither lasts until the connection ends
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class HttpError(Exception):
    """The message names the origin and what happened: for operators, not for clients."""


class ConnectFailed(HttpError): ...


class Disconnected(HttpError): ...


class ProtocolError(HttpError): ...


class TimedOut(HttpError): ...


class TooLong(HttpError): ...


class Origin:
    """One server, and the connections to it. For use in one event loop.

    *url*: `http[s]://host[:port][/base]`; the base goes before every path. *headers* go with every request. *tls*:
    instead of the system's certificate authorities and checks. Raises ValueError for what cannot be asked.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        idle_connections: int = IDLE_CONNECTIONS,
        idle_seconds: float = IDLE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"{url!r} is no address of a server: write http://host:port or https://host")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                f"{parts.hostname}: credentials go into headers; query and fragment cannot be part of a base"
            )
        self.name = f"{parts.scheme}://{_authority(parts.hostname, parts.port)}"
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._base = parts.path.rstrip("/")
        self._tls = (tls or _checking_tls()) if parts.scheme == "https" else None
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle_connections = idle_connections
        self._idle_seconds = idle_seconds
        own = {"host": _authority(self._host, parts.port), "accept-encoding": "identity"}
        self._fields = _written(own | {name.lower(): value for name, value in headers.items()})
        self._heads: dict[tuple[str, str], bytes] = {}
        self._open: set[_Connection] = set()
        self._idle: dict[_Connection, None] = {}  # the last used is taken first, so that the others may expire
        self._closed = False
        self._all_gone: asyncio.Event = asyncio.Event()

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        return len(self._idle)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        timeout_seconds: float,
        at_once: bool = False,
    ) -> "Response":
        """The response, once its head is here, in *timeout_seconds* from now. *headers* are sent besides the origin's.
        Requests of one turn of the event loop leave together at its end, which costs less, but for those *at_once*.

        A kept connection may have been closed by the server a moment ago: where it ends before a byte of an answer, the
        request is sent once more over a new one. Raises HttpError. Cancelling closes the connection.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + timeout_seconds
        message = self._message(method, path, body, headers)
        kept = self._kept(now)
        if kept is not None:
            try:
                return await kept.ask(message, method, deadline, at_once=at_once)
            except Disconnected:
                if kept.heard:
                    raise
        connection = await self._connect(loop, deadline)
        return await connection.ask(message, method, deadline, at_once=at_once)

    async def close(self) -> None:
        """Close every connection, those in use too: their answers end with Disconnected. Safe to call twice."""
        self._closed = True
        for connection in tuple(self._open):
            connection.give_up(Disconnected(f"{self.name}: closed by the gateway itself"))
        if self._open:
            await self._all_gone.wait()

    def _message(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        head = self._heads.get((method, path)) or self._new_head(method, path)
        if headers:
            head += _written(headers)
        if not body and method in ("GET", "HEAD"):
            return head + b"\r\n"
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)

    def _new_head(self, method: str, path: str) -> bytes:
        target = self._base + path
        if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
            raise ValueError(f"{method!r} {target!r} cannot be the first line of a request: quote the path")
        head = f"{method} {target} HTTP/1.1\r\n".encode("ascii") + self._fields
        if len(self._heads) >= KNOWN_HEADS:
            self._heads.clear()
        self._heads[method, path] = head
        return head

    def _kept(self, now: float) -> "_Connection | None":
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.deadline > now and not connection.closing:
                return connection
            connection.abort()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, deadline: float) -> "_Connection":
        if self._closed:
            raise ConnectFailed(f"{self.name}: this origin has been closed")
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect_timeout_seconds)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, loop),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError as error:
            raise ConnectFailed(f"{self.name}: no connection in time") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one
            raise ConnectFailed(f"{self.name}: {error}") from error
        self._admit(connection)
        return connection

    def _admit(self, connection: "_Connection") -> None:
        """Count it among the open ones; only now, as uvloop does not tell a protocol that its connect was cancelled."""
        if self._closed:
            connection.abort()
            raise ConnectFailed(f"{self.name}: this origin has been closed meanwhile")
        if connection.closing:
            raise Disconnected(f"{self.name}: the connection was closed before anything was asked")
        self._open.add(connection)

    def keep(self, connection: "_Connection", announced_seconds: float) -> bool:
        """Whether the connection stays for the next request. *announced_seconds*: how long the server will keep it."""
        seconds = min(self._idle_seconds, announced_seconds - KEEP_ALIVE_MARGIN_SECONDS)
        if self._closed or seconds <= 0 or len(self._idle) >= self._idle_connections:
            return False
        self._idle[connection] = None
        connection.watch(connection.loop.time() + seconds)
        return True

    def gone(self, connection: "_Connection") -> None:
        self._idle.pop(connection, None)
        self._open.discard(connection)
        if self._closed and not self._open:
            self._all_gone.set()


class Response:
    """An answer whose head is here. Close it; once its body has come to its end, that costs nothing."""

    __slots__ = ("_connection", "_error", "_fields", "_headers", "_pieces", "_waiter", "status")

    def __init__(self, connection: "_Connection", pieces: list[bytes]) -> None:
        self.status = 0  # until the head is here
        self._fields: list[tuple[bytes, bytes]] = []
        self._headers: Mapping[str, str] | None = None
        self._connection: _Connection | None = connection  # until the end of the body
        self._pieces = pieces  # of the body, unread; the connection's own list as long as there is one
        self._error: HttpError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; the values of a repeated one joined by `, `."""
        if self._headers is None:
            self._headers = _read(self._fields)
        return self._headers

    async def read(self, timeout_seconds: float) -> bytes:
        """What has arrived since the last call, at least a byte; empty at the end. *timeout_seconds*: from now to it.

        Raises HttpError, after everything that arrived before the fault. Cancelling closes the connection.
        """
        connection = self._connection
        if connection is not None and not self._pieces:
            deadline = connection.loop.time() + timeout_seconds
            try:
                while self._connection is not None and not self._pieces:
                    await connection.news(self, deadline)
            except BaseException:
                self.close()
                raise
        pieces = self._pieces
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._connection is not None:
                self._connection.taken()
            return piece
        if self._error is not None:
            raise self._error
        return b""

    async def read_all(self, limit_bytes: int, timeout_seconds: float) -> bytes:
        """The body from here to its end. Raises HttpError: TooLong where there is more, and closes the connection."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        pieces: list[bytes] = []
        size_bytes = 0
        while piece := await self.read(deadline - loop.time()):
            size_bytes += len(piece)
            if size_bytes > limit_bytes:
                self.close()
                raise TooLong(f"the body is longer than {limit_bytes} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection up if the body has not ended: that is how a server learns that nobody listens."""
        if self._connection is not None:
            self._connection.give_up(Disconnected("the response has been closed"))

    def detach(self, pieces: list[bytes], error: HttpError | None) -> None:
        """The connection has no more for this response: *pieces* are the rest of its body."""
        self._connection = None
        self._pieces = pieces
        self._error = error
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():  # cancelled, and its task has not run since
                waiter.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection: idle, or with one response. Both kinds of event loop switch Nagle's algorithm off."""

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_complete",
        "_fields",
        "_head_only",
        "_origin",
        "_parser",
        "_paused",
        "_pieces",
        "_response",
        "_reusable",
        "_transport",
        "_unread_bytes",
        "_unsent",
        "deadline",
        "loop",
        "on_body",
    )

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.deadline = math.inf  # while a response waits: for its next bytes; while idle: for the next request
        self._origin = origin
        self._transport: asyncio.Transport
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._response: Response | None = None
        self._head_only = False
        self._complete = False
        self._reusable = False
        self._paused = False
        self._unsent = b""  # of the request
        self._unread_bytes = 0  # received since the request, or since the body was last read
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # for the parser: a call of every chunk that costs no Python
        self._parser = HttpResponseParser(self)

    # What a request and its response do

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    @property
    def heard(self) -> bool:
        """Whether a byte has come since the request."""
        return self._unread_bytes > 0

    async def ask(self, message: bytes, method: str, deadline: float, *, at_once: bool) -> Response:
        response = self._response = Response(self, self._pieces)
        self._head_only = method == "HEAD"
        self._complete = self._reusable = False
        self._unread_bytes = 0
        self._unsent = message
        if at_once:
            self._send()
        else:
            self.loop.call_soon(self._send)
        try:
            while not response.status and response._connection is not None:
                await self.news(response, deadline)
        except BaseException:
            response.close()
            raise
        if not response.status:
            assert response._error is not None
            raise response._error
        return response

    def _send(self) -> None:
        message, self._unsent = self._unsent, b""
        if message:
            self._transport.write(message)

    def news(self, response: Response, deadline: float) -> asyncio.Future[None]:
        """Done when something may have changed: a head, a piece of the body, its end, or a fault at *deadline*."""
        assert response._waiter is None, "two readers of one response"
        response._waiter = waiter = self.loop.create_future()
        self.watch(deadline)
        return waiter

    def watch(self, deadline: float) -> None:
        """Let nobody wait beyond *deadline*. An alarm that is set for earlier looks again then: few are ever moved."""
        self.deadline = deadline
        if deadline < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self.loop.call_at(deadline, self._ring)
            self._alarm_at = deadline

    def taken(self) -> None:
        """The response has been read as far as it is here."""
        self._unread_bytes = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def give_up(self, error: HttpError) -> None:
        """End the response, if there is one, with *error*, and the connection with it."""
        self._detach(error)
        self.abort()

    def abort(self) -> None:
        self._unsent = b""
        self._transport.abort()

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked, so nobody could tell the next answer from it
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                self.give_up(ProtocolError(f"{self._origin.name}: what was received is no HTTP/1.1: {error}"))
                return
            self._reusable = False  # the answer is whole; what follows it is of no use
        if self._complete:
            self._finish(response)
            return
        self._unread_bytes += len(data)
        if self._unread_bytes > UNREAD_LIMIT_BYTES:
            self._hold()
        response.wake()

    def eof_received(self) -> None:
        self._hung_up(None)  # the event loop closes the connection

    def connection_lost(self, error: Exception | None) -> None:
        self._unsent = b""
        self._hung_up(error)
        self._origin.gone(self)
        if self._alarm is not None:
            self._alarm.cancel()
        del self._parser  # it refers to this connection, and only the garbage collector would find out

    # What the parser tells

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        fields, self._fields = self._fields, []
        if status < 100:
            raise ValueError(f"there is no status {status}")
        if status >= 200:
            response = self._response
            assert response is not None
            response.status = status
            response._fields = fields
            self._complete = self._head_only  # of which the parser does not know; it would wait for the body

    def on_message_complete(self) -> None:
        assert self._response is not None
        if self._response.status:  # else it was an interim one, 1xx
            self._complete = True
            self._reusable = self._parser.should_keep_alive() and not self._head_only
            self._fields.clear()  # of the trailer

    # What follows from it

    def _finish(self, response: Response) -> None:
        self._detach(None)
        # else the answer came before the request was out
        written = not self._unsent and not self._transport.get_write_buffer_size()
        if not (self._reusable and written and self._origin.keep(self, _announced_seconds(response._fields))):
            self.abort()

    def _hung_up(self, error: Exception | None) -> None:
        response = self._response
        if response is None:
            return
        if error is None and response.status and not _FRAMING.intersection(response.headers):
            self._detach(None)  # this is how such a body ends
        else:
            what = "reset" if error is not None else "closed"
            self._detach(Disconnected(f"{self._origin.name}: the connection was {what} before the end of the answer"))

    def _detach(self, error: HttpError | None) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.detach([] if self._head_only else self._pieces.copy(), error)
        self._pieces.clear()

    def _hold(self) -> None:
        """Too much is here and unread: let the server wait, unless it is no body that could be read."""
        if not self._pieces:
            self.give_up(ProtocolError(f"{self._origin.name}: {UNREAD_LIMIT_BYTES} bytes, and none of them of a body"))
        elif not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _ring(self) -> None:
        self._alarm = None
        self._alarm_at = math.inf
        response = self._response
        if response is not None and response._waiter is None:
            return
        if self.loop.time() < self.deadline:
            self.watch(self.deadline)
        else:
            self.give_up(TimedOut(f"{self._origin.name}: nothing came in the time given"))


def _authority(host: str, port: int | None) -> str:
    """As it stands in a URL and in the host field; an address of IPv6 in brackets."""
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


def _checking_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _written(headers: Mapping[str, str]) -> bytes:
    """Raises ValueError, which does not quote the value: it may be a key."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"header {name!r} cannot be sent: no line ends and no characters beyond latin-1")
        if name.lower() in _FRAMING:
            raise ValueError(f"header {name!r} is written by the client itself: leave it out")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def _read(fields: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _announced_seconds(fields: list[tuple[bytes, bytes]]) -> float:
    """For how long the server will keep the connection; infinite where it does not say."""
    for name, value in fields:
        if len(name) == len(b"keep-alive") and name.lower() == b"keep-alive":
            announced = _KEEP_ALIVE_TIMEOUT.search(value)
            return float(announced[1]) if announced else math.inf
    return math.inf
