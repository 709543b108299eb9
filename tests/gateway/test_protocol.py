"""The HTTP server's protocol against uvicorn's own: the same requests and applications, the same bytes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.protocol import BODYLESS, WAITING_LIMIT_BYTES, Protocol

App = Callable[[Scope, Receive, Send], Awaitable[None]]
TURNS = 40  # of the event loop, more than any request here takes


class Wire:
    """A transport to nowhere that remembers what is written, each write apart."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)


async def serve(kind: type[HttpToolsProtocol], app: App, pieces: Sequence[bytes]) -> Wire:
    """What *app* behind a protocol of this *kind* makes of a connection on which *pieces* come in."""
    config = uvicorn.Config(cast(Any, app), log_config=None, access_log=False)
    config.load()
    protocol = kind(config, ServerState(), {}, asyncio.get_running_loop())
    wire = Wire()
    protocol.connection_made(cast(asyncio.Transport, wire))
    for piece in pieces:
        protocol.data_received(piece)
        for _ in range(TURNS):
            await asyncio.sleep(0)
    ended = wire.written, wire.closed
    protocol.connection_lost(RuntimeError("the test is over"))
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert (wire.written, wire.closed) == ended, "something was still to come"
    return wire


def both(app: App, pieces: Sequence[bytes]) -> tuple[Wire, Wire]:
    async def served() -> tuple[Wire, Wire]:
        return await serve(Protocol, app, pieces), await serve(HttpToolsProtocol, app, pieces)

    return asyncio.run(served())


def request(method: str = "GET", *lines: bytes, body: bytes = b"", version: str = "1.1", path: str = "/") -> bytes:
    head = b"".join(line + b"\r\n" for line in (f"{method} {path} HTTP/{version}".encode(), b"host: x", *lines))
    return head + b"\r\n" + body


def answering(status: int, headers: Sequence[tuple[bytes, bytes]], parts: Sequence[bytes], *, pauses: int = 0) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for place, part in enumerate(parts):
            for _ in range(pauses):
                await asyncio.sleep(0)
            more = place < len(parts) - 1
            await send({"type": "http.response.body", "body": part, "more_body": more})

    return app


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    seen = repr((scope["method"], scope["path"], scope["raw_path"], scope["query_string"], scope["http_version"]))
    body = seen.encode() + body
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


statuses = st.sampled_from([200, 201, 204, 304, 400, 404, 429, 500, 503])
fields = st.lists(
    st.tuples(st.sampled_from([b"x-a", b"x-b", b"content-type"]), st.binary().map(bytes.hex).map(str.encode))
)


@given(
    status=statuses,
    headers=fields,
    parts=st.lists(st.binary(max_size=30), min_size=1, max_size=4),
    method=st.sampled_from(["GET", "POST", "HEAD", "DELETE"]),
    version=st.sampled_from(["1.0", "1.1"]),
    closing=st.booleans(),
    measured=st.booleans(),
    pauses=st.integers(0, 2),
)
def test_a_response_has_the_bytes_that_uvicorn_would_write(
    status: int,
    headers: list[tuple[bytes, bytes]],
    parts: list[bytes],
    method: str,
    version: str,
    closing: bool,
    measured: bool,
    pauses: int,
) -> None:
    if status in BODYLESS:
        parts = [b""]
    elif measured:
        headers = [*headers, (b"content-length", str(sum(map(len, parts))).encode())]
    asked = request(method, *([b"connection: close"] if closing else []), version=version)
    ours, theirs = both(answering(status, headers, parts, pauses=pauses), [asked])
    assert (ours.written, ours.closed) == (theirs.written, theirs.closed)


@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 400), max_size=4),
    path=st.sampled_from(["/", "/a%20b?c=d", "/v1/x?", "/%C3%A9"]),
)
def test_requests_one_behind_another_are_read_and_answered_as_by_uvicorn(
    bodies: list[bytes], cuts: list[int], path: str
) -> None:
    """Cut anywhere: in the line, in a head, in a body, or several requests in one piece."""
    stream = b"".join(request("POST", b"content-length: %d" % len(body), body=body, path=path) for body in bodies)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    ours, theirs = both(echo, pieces)
    assert (ours.written, ours.closed) == (theirs.written, theirs.closed)
    assert ours.written.count(b"HTTP/1.1 200 OK") == len(bodies)


def test_a_body_is_asked_for_when_the_client_waits_to_send_it() -> None:
    head = request("POST", b"content-length: 5", b"expect: 100-continue")
    ours, theirs = both(echo, [head, b"hello"])
    assert ours.written == theirs.written
    assert ours.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")


def test_a_large_upload_pauses_reading_and_comes_in_whole() -> None:
    body = bytes(range(256)) * 1024
    pieces = [
        request("POST", b"content-length: %d" % len(body)),
        *(body[i : i + 9000] for i in range(0, len(body), 9000)),
    ]
    ours, theirs = both(echo, pieces)
    assert ours.written == theirs.written
    assert ours.written.endswith(body)
    assert ours.reading


def test_a_head_leaves_in_one_write_with_what_follows_it_at_once() -> None:
    ours, theirs = both(answering(200, [(b"content-length", b"5")], [b"hello"]), [request()])
    assert (len(ours.writes), len(theirs.writes)) == (1, 2)


def test_a_head_alone_waits_for_the_first_part_of_its_body() -> None:
    ours, _ = both(answering(200, [], [b"one", b"two"], pauses=5), [request()])
    assert [write.count(b"HTTP/1.1") for write in ours.writes] == [1, 0]
    assert ours.writes[0].endswith(b"3\r\none\r\n")


def test_parts_of_a_stream_leave_as_they_come() -> None:
    ours, _ = both(answering(200, [], [b"one", b"two", b"three"]), [request()])
    assert [write.count(b"\r\n\r\n") for write in ours.writes] == [1, 0, 1]  # after the head, and at the end


def test_what_waits_for_the_end_of_a_turn_is_bounded() -> None:
    """Answers to requests that came in one piece wait for each other only so far."""
    body = b"x" * (WAITING_LIMIT_BYTES * 2 // 5)
    app = answering(200, [(b"content-length", b"%d" % len(body))], [body])
    ours, theirs = both(app, [request() * 4])
    assert ours.written == theirs.written
    assert max(map(len, ours.writes)) < WAITING_LIMIT_BYTES + len(body) + 1024
    assert len(ours.writes) < len(theirs.writes)


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\rb", b"a\0b"])
def test_a_field_that_would_end_its_line_is_not_written(value: bytes) -> None:
    ours, _ = both(answering(200, [(b"x-a", value)], [b"hello"]), [request()])
    assert b"evil" not in ours.written
    assert ours.written.startswith(b"HTTP/1.1 500") or not ours.written


@pytest.mark.parametrize("length", [b"4", b"6"])
def test_a_body_that_is_not_as_long_as_told_ends_the_connection(length: bytes) -> None:
    ours, theirs = both(answering(200, [(b"content-length", length)], [b"hello"]), [request()])
    assert ours.closed
    assert theirs.closed


def test_what_is_no_http_is_refused() -> None:
    ours, theirs = both(echo, [b"nonsense\r\n\r\n"])
    assert (ours.written, ours.closed) == (theirs.written, theirs.closed)
    assert ours.written.startswith(b"HTTP/1.1 400")
