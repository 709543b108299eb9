"""A client for HTTP/1.1 on asyncio and httptools, made for the serving path: little per request, less per piece.

Knows connections, framing and time. Follows no redirects, keeps no cookies, decodes nothing.

HttpError
 +- ConnectFailed   nobody is there
 +- Disconnected    the connection ended before the answer did
 +- ProtocolError   what came is no HTTP, or more of it than is taken
 +- TimedOut
 +- BodyTooLong     longer than the caller takes
"""

import asyncio
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import cast
from urllib.parse import SplitResult, urlsplit

import httptools

HEAD_LIMIT_BYTES = 64 * 1024
HIGH_WATER_BYTES = 256 * 1024  # unread; above it the server is kept waiting
JOINED_BODY_BYTES = 64 * 1024  # a longer one is not copied behind its head
IDLE_SECONDS = 55.0  # a pooled connection is given up then; servers that keep theirs for a minute are not raced
KEEP_ALIVE_MARGIN_SECONDS = 1.0  # before the time a server names: our request would cross its close


class HttpError(Exception):
    """See the module."""


class ConnectFailed(HttpError): ...


class Disconnected(HttpError): ...


class ProtocolError(HttpError): ...


class TimedOut(HttpError): ...


class BodyTooLong(HttpError): ...


class Origin:
    """One server, and the connections to it. `request` from one event loop only.

    *url* may have a path, which goes before that of each request. *headers* go with every request.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout_seconds: float = 5.0,
        idle_connections: int = 64,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._address = _Address.of(url)
        self._headers = dict(headers or {})
        self._heads: dict[tuple[str, str], bytes] = {}  # request heads up to their content-length, by method and path
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle_connections = idle_connections
        self._idle_seconds = idle_seconds
        self._idle: list[_Connection] = []
        self._ssl: ssl.SSLContext | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
    ) -> "Response":
        """The response, once its head is here, at the latest after *timeout_seconds*. Raises HttpError.

        A pooled connection may turn out to have been closed by its server; then the request is sent once more.
        """
        head = self._head(method, path, len(body), headers)
        connection = self._pooled()
        if connection is not None:
            try:
                return await self._exchange(connection, head, body, timeout_seconds)
            except Disconnected:
                if connection.heard:
                    raise
        return await self._exchange(await self._connect(timeout_seconds), head, body, timeout_seconds)

    async def close(self) -> None:
        """Give up every pooled connection; answers that are being read go on."""
        self._idle_connections = 0
        for connection in self._idle[:]:
            connection.abort()
        self._idle.clear()

    async def _exchange(
        self, connection: "_Connection", head: bytes, body: bytes, timeout_seconds: float
    ) -> "Response":
        try:
            return await connection.exchange(head, body, timeout_seconds)
        except BaseException:
            connection.abort()
            raise

    def _head(self, method: str, path: str, length: int, headers: Mapping[str, str] | None) -> bytes:
        start = self._heads.get((method, path))
        if start is None:
            told = {"host": self._address.host_header, "accept-encoding": "identity", **self._headers}
            lines = [f"{method} {self._address.path}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in told.items())]
            start = "\r\n".join([*lines, "content-length: "]).encode("latin-1")
            if len(self._heads) < 64:  # paths are a handful; a caller that makes them up fills no memory
                self._heads[method, path] = start
        if not headers:
            return b"%b%d\r\n\r\n" % (start, length)
        more = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
        return b"%b%d%b\r\n\r\n" % (start, length, more.encode("latin-1", "replace"))

    def _pooled(self) -> "_Connection | None":
        """The one used last, which the server is least likely to give up."""
        now = monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.expires_at > now and not connection.lost:
                return connection
            connection.abort()
        return None

    async def _connect(self, timeout_seconds: float) -> "_Connection":
        """Raises ConnectFailed, TimedOut."""
        loop = asyncio.get_running_loop()
        address = self._address
        try:
            async with asyncio.timeout(min(timeout_seconds, self._connect_timeout_seconds)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), address.host, address.port, ssl=self._tls()
                )
        except TimeoutError as error:
            raise TimedOut("no connection in time") from error
        except (OSError, ValueError, OverflowError) as error:  # UnicodeError is a ValueError: a host that is no name
            raise ConnectFailed("no connection") from error
        return connection

    def _tls(self) -> ssl.SSLContext | None:
        if self._address.scheme != "https":
            return None
        if self._ssl is None:
            self._ssl = ssl.create_default_context()
        return self._ssl

    def take_back(self, connection: "_Connection", keep_seconds: float | None) -> None:
        """A connection whose answer has been read to its end, for the next request."""
        if len(self._idle) >= self._idle_connections:
            connection.abort()
            return
        seconds = self._idle_seconds if keep_seconds is None else min(self._idle_seconds, keep_seconds)
        connection.expires_at = monotonic() + seconds
        self._idle.append(connection)

    def forget(self, connection: "_Connection") -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class Response:
    """An answer whose head is here. `headers` by name in lower case; those that came twice are joined by commas."""

    def __init__(self, connection: "_Connection", status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection: _Connection | None = connection

    async def read(self, timeout_seconds: float) -> bytes:
        """What has come since the last call, at least a byte; empty at the end. Raises HttpError."""
        if self._connection is None:
            return b""
        return await self._connection.read(timeout_seconds)

    async def read_all(self, limit_bytes: int, timeout_seconds: float) -> bytes:
        """The rest of the body. Raises HttpError; BodyTooLong when it is longer than *limit_bytes*."""
        deadline = monotonic() + timeout_seconds
        body = await self.read(timeout_seconds)
        while piece := await self.read(max(0.0, deadline - monotonic())):
            body += piece
            if len(body) > limit_bytes:
                break
        if len(body) > limit_bytes:
            raise BodyTooLong(f"the body is longer than {limit_bytes} bytes")
        return body

    def close(self) -> None:
        """Read to its end, the connection serves again; otherwise it is cut, and the server learns of it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


class _Address:
    """Where a URL leads. A URL that leads nowhere has no host, and fails when it is connected to."""

    def __init__(self, url: SplitResult, port: int) -> None:
        self.scheme = url.scheme
        self.host = url.hostname or ""
        self.port = port
        self.path = url.path.rstrip("/")
        self.host_header = url.netloc.rpartition("@")[2]

    @classmethod
    def of(cls, url: str) -> "_Address":
        split = urlsplit(url)
        try:
            port = split.port or (443 if split.scheme == "https" else 80)
        except ValueError:
            port = 0
        return cls(split, port)


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time. Its parser's callbacks begin with `on_`."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._paused = False
        self.lost = False
        self.expires_at = 0.0
        self._start_exchange()
        self._busy = False

    def _start_exchange(self) -> None:
        self.heard = False  # a byte of the answer has come
        self._busy = True
        self._head_bytes = 0
        self._headers: dict[str, str] = {}
        self._has_head = False
        self._pieces: list[bytes] = []
        self._unread_bytes = 0
        self._complete = False
        self._reusable = True
        self._problem: HttpError | None = None

    async def exchange(self, head: bytes, body: bytes, timeout_seconds: float) -> Response:
        """Raises HttpError; close the connection then."""
        assert self._transport is not None
        deadline = self._loop.time() + timeout_seconds
        self._start_exchange()
        if len(body) <= JOINED_BODY_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        while not self._has_head:
            if self._problem is not None:
                raise self._problem
            await self._wait(deadline)
        return Response(self, self._parser_status, self._headers)

    async def read(self, timeout_seconds: float) -> bytes:
        if not self._pieces and not self._complete:
            deadline = self._loop.time() + timeout_seconds
            while not self._pieces and not self._complete and self._problem is None:
                await self._wait(deadline)
        pieces = self._pieces
        if pieces:
            whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
            self._unread_bytes = 0
            if self._paused:
                self._paused = False
                if self._transport is not None and not self.lost:
                    self._transport.resume_reading()
            return whole
        if self._complete:
            return b""
        assert self._problem is not None
        raise self._problem

    def release(self) -> None:
        """After an exchange: to the pool when nothing of it is left, otherwise closed at once."""
        transport = self._transport
        self._busy = False
        if (
            self._complete
            and self._reusable
            and not self.lost
            and not self._paused
            and transport is not None
            and transport.get_write_buffer_size() == 0
        ):
            self._pieces = []
            self._origin.take_back(self, _kept_seconds(self._headers.get("keep-alive")))
        else:
            self.abort()

    def abort(self) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, deadline: float) -> None:
        """Until something has come. Raises TimedOut."""
        self._deadline = deadline
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._on_time)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _on_time(self) -> None:
        """A timer is not moved with each deadline: when it rings too early, it is set anew."""
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_time)
        else:
            waiter.set_exception(TimedOut("nothing came in time"))

    def _fail(self, problem: HttpError) -> None:
        if self._problem is None and not self._complete:
            self._problem = problem
        self._reusable = False
        self._wake()

    # Of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        if not self._busy:  # words that nobody asked for
            self._origin.forget(self)
            self.abort()
            return
        self.heard = True
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES and b"\r\n\r\n" not in data:
                self._fail(ProtocolError(f"the head is longer than {HEAD_LIMIT_BYTES} bytes"))
                self.abort()
                return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError) as error:
            if self._complete:
                self._reusable = False
            else:
                self._fail(ProtocolError(f"not HTTP: {error}"))
                self.abort()
            return
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._origin.forget(self)
        if not self._busy or self._complete:
            return
        if error is None and self._has_head and self._ends_with_connection:
            self._complete = True
            self._reusable = False
            self._wake()
        else:
            self._fail(Disconnected("the server closed the connection"))

    # Of httptools

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False  # something follows the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer is yet to come
            self._headers = {}
            return
        self._parser_status = status
        self._has_head = True
        framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        self._ends_with_connection = not framed and status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._pieces.append(body)
        self._unread_bytes += len(body)
        if self._unread_bytes > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._has_head and not self._complete:  # neither that of a 1xx nor of garbage
            self._complete = True
            if not self._parser.should_keep_alive():  # it knows only now
                self._reusable = False


def _kept_seconds(keep_alive: str | None) -> float | None:
    """How long the server says it keeps the connection; None when it does not say."""
    for parameter in (keep_alive or "").split(","):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "timeout" and value.isdecimal():
            return max(0.0, int(value) - KEEP_ALIVE_MARGIN_SECONDS)
    return None
