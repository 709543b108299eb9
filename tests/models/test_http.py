"""The HTTP client against servers that do anything: what is sent, what is read, what is used again; and every
fault has its one meaning.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import pytest
import trustme
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from models import http
from models.http import ConnectFailed, Disconnected, HttpError, Origin, ProtocolError, Response, TimedOut, TooLong
from tests.fakes import unused_port
from tests.models.raw_server import Peer, RawServer, Script, Wire, WiredLoop

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

TEST_LIMIT_SECONDS = 10
LONG_SECONDS = 60.0  # longer than any test lasts
SHORT_SECONDS = 0.05  # where a time limit is tested
LIMIT_BYTES = 64 * 1024 * 1024

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
HELLO_CHUNKED = CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\ncontent-type: text/interim\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run[Any]:
    """Runs a test's coroutine on either kind of event loop."""
    factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]

    def running(test: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=factory) as runner:
            return run_strictly(runner, test)

    return running


def run_strictly(runner: asyncio.Runner, test: Coroutine[Any, Any, T]) -> T:
    """In limited time, and with nothing that an event loop would merely log."""
    complaints: list[dict[str, Any]] = []
    runner.get_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    result = runner.run(asyncio.wait_for(test, TEST_LIMIT_SECONDS))
    assert not complaints
    return result


def run_wired(test: Callable[[WiredLoop], Coroutine[Any, Any, T]]) -> T:
    loops: list[WiredLoop] = []

    def factory() -> WiredLoop:
        loops.append(WiredLoop())
        return loops[-1]

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop()
        return run_strictly(runner, test(loops[0]))


@asynccontextmanager
async def asking(script: Script, **options: Any) -> AsyncIterator[tuple[Origin, RawServer]]:
    """An origin whose server plays *script*, and which has left nothing open at the end."""
    async with RawServer(script) as server:
        origin = Origin(server.url, **options)
        try:
            yield origin, server
            await until(lambda: origin.open_connections == origin.idle_connections)
        finally:
            await origin.close()
        assert origin.open_connections == origin.idle_connections == 0


def answering(*answers: bytes) -> Script:
    """One request, one answer, in turn, on a connection that stays open until the client leaves."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        await peer.until_left()

    return script


async def get(origin: Origin, path: str = "/", **options: Any) -> Response:
    return await origin.request("GET", path, timeout_seconds=LONG_SECONDS, **options)


async def post(origin: Origin, body: bytes = b"{}", **options: Any) -> Response:
    return await origin.request("POST", "/", body, timeout_seconds=LONG_SECONDS, **options)


async def body_of(response: Response) -> bytes:
    return await response.read_all(LIMIT_BYTES, LONG_SECONDS)


async def passes(times: int) -> None:
    """Lets the loop go round, and everything that is ready happen."""
    for _ in range(times):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # of the client's insides, which announce nothing
        await asyncio.sleep(0)


# What is sent


def test_a_request_is_written_as_the_standard_has_it(run: Run[None]) -> None:
    async def test() -> None:
        requests = []

        async def script(peer: Peer) -> None:
            for _ in range(3):
                requests.append(await peer.request())
                await peer.send(HELLO)

        async with RawServer(script) as server:
            origin = Origin(server.url + "/base/", headers={"Authorization": "Bearer key"})
            for response in (
                await origin.request("POST", "/v1/chat?a=b", b"body", timeout_seconds=LONG_SECONDS),
                await origin.request("GET", "/models", headers={"x-request-id": "7"}, timeout_seconds=LONG_SECONDS),
                await origin.request("POST", "/empty", timeout_seconds=LONG_SECONDS),
            ):
                assert await body_of(response) == b"hello"
            await origin.close()
            host = f"127.0.0.1:{server.port}"
        common = {"host": host, "accept-encoding": "identity", "authorization": "Bearer key"}
        assert [request.request_line for request in requests] == [
            "POST /base/v1/chat?a=b HTTP/1.1",
            "GET /base/models HTTP/1.1",
            "POST /base/empty HTTP/1.1",
        ]
        assert [request.headers for request in requests] == [
            common | {"content-length": "4"},
            common | {"x-request-id": "7"},
            common | {"content-length": "0"},
        ]
        assert requests[0].body == b"body"

    run(test())


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://[::1]:8000/v1", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
        ("http://engine", "engine"),
        ("http://engine:80", "engine:80"),
        ("http://Engine:8000", "engine:8000"),
    ],
)
def test_the_host_is_named_as_in_the_url(url: str, host: str) -> None:
    async def test(loop: WiredLoop) -> None:
        origin = Origin(url)
        asked = asyncio.create_task(get(origin))
        await until(lambda: bool(loop.wires and loop.wires[0].written))
        assert f"\r\nhost: {host}\r\n".encode() in loop.wires[0].written
        await origin.close()
        with pytest.raises(Disconnected):
            await asked

    run_wired(test)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no address of IPv6")
def test_an_address_of_ipv6_is_asked(run: Run[None]) -> None:
    async def test() -> None:
        async with RawServer(answering(HELLO), host="::1") as server:
            origin = Origin(f"http://[::1]:{server.port}")
            assert await body_of(await get(origin)) == b"hello"
            await origin.close()

    run(test())


@pytest.mark.parametrize(
    "url",
    [
        "engine:8000",
        "ftp://engine",
        "http://",
        "http://engine:0",
        "http://engine:99999",
        "http://key@engine",
        "http://engine/v1?a=b",
        "http://engine/v1#a",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the URL's own parser refuses some
        Origin(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-a", "1\r\n2: 3"), ("x-a", "1\n2"), ("x-a", "\0"), ("x 9", "7"), ("x-a", "€"), ("content-length", "3")],
)
def test_headers_that_would_break_the_request_are_refused_without_quoting_their_value(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as refusal:
        Origin("http://engine", headers={name: value})
    assert value not in str(refusal.value)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/a b"), ("GET", "/a\r\n"), ("GET", "a"), ("G T", "/"), ("", "/")]
)
def test_a_request_line_that_would_break_is_refused(method: str, path: str) -> None:
    async def test(loop: WiredLoop) -> None:
        with pytest.raises(ValueError, match="first line"):
            await Origin("http://engine").request(method, path, timeout_seconds=LONG_SECONDS)
        assert not loop.wires

    run_wired(test)


def test_what_is_kept_for_a_path_does_not_grow_with_the_paths(run: Run[None]) -> None:
    async def test() -> None:
        async with asking(answering(*[HELLO] * 200)) as (origin, _):
            for number in range(200):
                assert await body_of(await get(origin, f"/{number}")) == b"hello"
            assert len(origin._heads) <= http.KNOWN_HEADS

    run(test())


def test_small_packets_are_sent_at_once(run: Run[None]) -> None:
    async def test() -> None:
        async with asking(answering(HELLO)) as (origin, _):
            await body_of(await get(origin))
            (connection,) = origin._open
            client = connection._transport.get_extra_info("socket")
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(test())


# What is read


@dataclass(frozen=True)
class Case:
    answer: bytes
    body: bytes = b"hello"
    status: int = 200
    method: str = "POST"
    reused: bool = True
    server_closes: bool = False


READ = {
    "length": Case(HELLO),
    "chunks": Case(HELLO_CHUNKED),
    "chunks of one byte": Case(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n"),
    "chunk extensions": Case(CHUNKED + b'5;name="va;lue";x\r\nhello\r\n0;last\r\n\r\n'),
    "leading zeros": Case(CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n"),
    "a trailer": Case(CHUNKED + b"5\r\nhello\r\n0\r\nx-checksum: 7\r\nx-b: c\r\n\r\n"),
    "a gzip'd answer is passed on": Case(
        OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b", b"\x1f\x8b"
    ),
    "no chunk": Case(CHUNKED + b"0\r\n\r\n", b""),
    "length 0": Case(OK + b"content-length: 0\r\n\r\n", b""),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "304 with the length of what is not sent": Case(
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", 304
    ),
    "404": Case(b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello", status=404),
    "a redirect is not followed": Case(b"HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 5\r\n\r\nhello", status=307),
    "no reason": Case(b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello"),
    "empty lines before": Case(b"\r\n\r\n" + HELLO),
    "100": Case(CONTINUE + HELLO),
    "100, 102, 103, 199": Case(
        CONTINUE + b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS + b"HTTP/1.1 199 X\r\n\r\n" + HELLO_CHUNKED
    ),
    "another protocol offered": Case(OK + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\n\r\nhello"),
    "HEAD": Case(OK + b"content-length: 5\r\n\r\n", b"", method="HEAD", reused=False),
    "HEAD with chunks": Case(CHUNKED, b"", method="HEAD", reused=False),
    "HEAD with a body": Case(HELLO, b"", method="HEAD", reused=False),
    "connection: close": Case(OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", reused=False),
    "connection: Close, chunked": Case(
        OK + b"Connection: Close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", reused=False
    ),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", reused=False),
    "HTTP/1.0, kept": Case(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello"),
    "until the end": Case(OK + b"\r\nhello", reused=False, server_closes=True),
    "until the end, nothing": Case(OK + b"\r\n", b"", reused=False, server_closes=True),
    "until the end, HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\n\r\nhello", reused=False, server_closes=True),
    "kept for long": Case(OK + b"keep-alive: timeout=5, max=100\r\ncontent-length: 5\r\n\r\nhello"),
    "kept for a second": Case(OK + b"Keep-Alive: max=9, timeout=1\r\ncontent-length: 5\r\n\r\nhello", reused=False),
    "kept for nothing that one understands": Case(OK + b"keep-alive: soon\r\ncontent-length: 5\r\n\r\nhello"),
}


@pytest.mark.parametrize("case", READ.values(), ids=READ.keys())
@pytest.mark.parametrize("in_bytes", [False, True], ids=["at once", "byte by byte"])
def test_every_form_of_an_answer_is_read_and_its_connection_used_again_where_that_is_right(
    run: Run[None], case: Case, in_bytes: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*([bytes([byte]) for byte in case.answer] if in_bytes else [case.answer]))
        if not case.server_closes:
            await peer.request()
            await peer.send(HELLO)
            await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await origin.request(case.method, "/", timeout_seconds=LONG_SECONDS)
            assert response.status == case.status
            assert await body_of(response) == case.body
            assert await response.read(LONG_SECONDS) == b"", "the end stays the end"
            response.close()
            assert origin.idle_connections == case.reused
            server._script = answering(HELLO)  # for a second connection
            assert await body_of(await get(origin)) == b"hello"
            assert len(server.peers) == (1 if case.reused else 2)

    run(test())


def test_headers_are_in_lower_case_joined_and_free_of_interim_ones_and_trailers(run: Run[None]) -> None:
    answer = (
        HINTS
        + OK
        + b"Content-Type: text/plain\r\nX-A: 1\r\nEmpty:\r\nx-a: 2\r\nX-L: \xe9\r\nTransfer-Encoding: chunked"
        b"\r\n\r\n1\r\nx\r\n0\r\nx-trailer: t\r\nx-a: 3\r\n\r\n"
    )

    async def test() -> None:
        async with asking(answering(answer, HELLO)) as (origin, _):
            response = await get(origin)
            assert await body_of(response) == b"x"
            assert response.headers == {
                "content-type": "text/plain",
                "x-a": "1, 2",
                "empty": "",
                "x-l": "é",
                "transfer-encoding": "chunked",
            }
            second = await get(origin)
            assert second.headers == {"content-length": "5"}

    run(test())


def test_what_has_arrived_is_read_before_the_rest_is_sent(run: Run[None]) -> None:
    async def test() -> None:
        go_on = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED, b"2\r\nhe\r\n")
            await go_on.wait()
            await peer.send(b"3\r\nllo\r\n0\r\n\r\n")
            await peer.until_left()

        async with asking(script) as (origin, _):
            response = await get(origin)
            assert await response.read(LONG_SECONDS) == b"he"
            go_on.set()
            assert await body_of(response) == b"llo"

    run(test())


def test_a_body_longer_than_the_caller_takes_is_given_up(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.push(CHUNKED)
        while True:
            await peer.send(b"400\r\n" + b"x" * 0x400 + b"\r\n")

    async def test() -> None:
        async with asking(script) as (origin, server):
            with pytest.raises(TooLong):
                await (await get(origin)).read_all(10_000, LONG_SECONDS)
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())


@pytest.mark.parametrize(("limit_bytes", "fits"), [(5, True), (4, False)])
def test_the_limit_of_a_whole_body_is_exact(run: Run[None], limit_bytes: int, fits: bool) -> None:
    async def test() -> None:
        async with asking(answering(HELLO)) as (origin, _):
            response = await get(origin)
            if fits:
                assert await response.read_all(limit_bytes, LONG_SECONDS) == b"hello"
            else:
                with pytest.raises(TooLong):
                    await response.read_all(limit_bytes, LONG_SECONDS)

    run(test())


# Every split


@dataclass(frozen=True)
class Sent:
    """An answer as some server sends it, and what is to be read of it."""

    wire: bytes
    body: bytes
    reusable: bool
    ends_with_connection: bool


@st.composite
def sent_answers(draw: st.DrawFn) -> Sent:
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    body = b"".join(pieces)
    interim = b"".join(draw(st.lists(st.sampled_from([CONTINUE, HINTS]), max_size=2)))
    form = draw(st.sampled_from(["length", "chunks", "end"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    connection = draw(st.sampled_from([b"", b"connection: close\r\n", b"Connection: keep-alive\r\n"]))
    head = interim + b"HTTP/%b 200 OK\r\nserver: x\r\n" % version + connection
    kept = b"close" not in connection if version == b"1.1" else b"keep-alive" in connection
    match form:
        case "length":
            return Sent(head + b"content-length: %d\r\n\r\n%b" % (len(body), body), body, kept, False)
        case "chunks":
            extension = draw(st.sampled_from([b"", b";a=b", b';a="b;c"']))
            trailer = draw(st.sampled_from([b"", b"x-t: u\r\n"]))
            chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
            end = b"0\r\n" + trailer + b"\r\n"
            return Sent(head + b"transfer-encoding: chunked\r\n\r\n" + chunks + end, body, kept, False)
        case _:
            return Sent(head + b"\r\n" + body, body, False, True)


async def play_on(loop: WiredLoop, piece: bytes) -> None:
    """Deliver *piece* to the only wire, when whoever reads has begun to wait."""
    await passes(2)
    loop.wires[0].hear(piece)


async def play(loop: WiredLoop, whole: bytes, cuts: Sequence[int] = ()) -> Wire:
    """Deliver *whole*, cut, to the wire that the last request went out on."""

    def asked() -> list[Wire]:
        return [wire for wire in loop.wires if wire.written and not wire.ended]

    await until(lambda: bool(asked()))
    (wire,) = asked()
    wire.written = b""
    bounds = [0, *sorted({cut % (len(whole) + 1) for cut in cuts}), len(whole)]
    for start, end in pairwise(bounds):
        if start < end:
            wire.hear(whole[start:end])
            await passes(2)
    return wire


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(sent_answers(), st.lists(st.integers(0, 400), max_size=8), st.booleans()), min_size=1, max_size=4
    )
)
def test_the_bytes_read_are_the_bytes_sent_however_they_are_cut_and_the_connection_is_reused_exactly_when_it_may_be(
    exchanges: list[tuple[Sent, list[int], bool]],
) -> None:
    async def asked_and_read(origin: Origin, read_late: bool) -> bytes:
        response = await post(origin)
        if read_late:
            await passes(40)  # longer than any answer takes to arrive
        return await body_of(response)

    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        expected = 0
        for answer, cuts, read_late in exchanges:
            expected += not origin.idle_connections
            asked = asyncio.create_task(asked_and_read(origin, read_late))
            wire = await play(loop, answer.wire, cuts)
            if answer.ends_with_connection:
                wire.end()
            assert await asked == answer.body
            assert len(loop.wires) == expected
            assert origin.idle_connections == answer.reusable
            assert wire.ended == (not answer.reusable)
        await origin.close()

    run_wired(test)


@pytest.mark.parametrize("answer", [HELLO, HELLO_CHUNKED, HINTS + HELLO_CHUNKED, OK + b"\r\nhello"])
def test_every_pair_of_cuts_gives_the_same_answer(answer: bytes) -> None:
    async def test(loop: WiredLoop) -> None:
        for first in range(len(answer)):
            for second in range(first, len(answer), 7):
                origin = Origin("http://engine")
                asked = asyncio.create_task(whole(origin))
                (await play(loop, answer, [first, second])).end()
                assert await asked == b"hello"

    async def whole(origin: Origin) -> bytes:
        return await body_of(await get(origin))

    run_wired(test)


@pytest.mark.parametrize("answer", [HELLO, HELLO_CHUNKED, CONTINUE + HELLO_CHUNKED])
@pytest.mark.parametrize("fault", [None, ConnectionResetError()], ids=["closed", "reset"])
def test_an_answer_cut_anywhere_is_a_prefix_and_then_a_disconnection(answer: bytes, fault: Exception | None) -> None:
    async def read_until_it_ends(origin: Origin) -> tuple[bytes, HttpError | None]:
        body = b""
        try:
            response = await get(origin)
            while piece := await response.read(LONG_SECONDS):
                body += piece
        except HttpError as error:
            return body, error
        return body, None

    async def test(loop: WiredLoop) -> None:
        for length in range(len(answer)):
            origin = Origin("http://engine")
            asked = asyncio.create_task(read_until_it_ends(origin))
            (await play(loop, answer[:length])).end(fault)
            body, error = await asked
            assert isinstance(error, Disconnected)
            assert b"hello".startswith(body)
            await passes(1)
            assert origin.open_connections == 0

    run_wired(test)


# Faults


FAULTS = {
    "nothing": (b"", Disconnected),
    "half a first line": (b"HTTP/1.1 2", Disconnected),
    "half a head": (OK + b"content-le", Disconnected),
    "no end of the head": (OK + b"content-length: 5\r\n", Disconnected),
    "only 100": (CONTINUE, Disconnected),
    "half a body": (OK + b"content-length: 5\r\n\r\nhe", Disconnected),
    "no body": (OK + b"content-length: 5\r\n\r\n", Disconnected),
    "half a chunk": (CHUNKED + b"5\r\nhe", Disconnected),
    "no last chunk": (CHUNKED + b"5\r\nhello\r\n", Disconnected),
    "half a last chunk": (CHUNKED + b"5\r\nhello\r\n0\r\n", Disconnected),
    "half a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nx-a: b", Disconnected),
    "an unknown transfer coding": (OK + b"transfer-encoding: gzip\r\n\r\nhello", Disconnected),
    "text": (b"<html>hello</html>", ProtocolError),
    "an alert of TLS": (b"\x15\x03\x01\x00\x02\x02\x46", ProtocolError),
    "HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", ProtocolError),
    "status 20": (b"HTTP/1.1 20 OK\r\ncontent-length: 5\r\n\r\nhello", ProtocolError),
    "status 000": (b"HTTP/1.1 000 OK\r\ncontent-length: 5\r\n\r\nhello", ProtocolError),
    "a switch of protocols": (b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello", ProtocolError),
    "a switch to nothing": (b"HTTP/1.1 101 X\r\n\r\nhello", ProtocolError),
    "length and chunks": (
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ProtocolError,
    ),
    "chunks and length": (
        OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ProtocolError,
    ),
    "two lengths": (OK + b"content-length: 5\r\ncontent-length: 4\r\n\r\nhello", ProtocolError),
    "a negative length": (OK + b"content-length: -5\r\n\r\nhello", ProtocolError),
    "a length in words": (OK + b"content-length: five\r\n\r\nhello", ProtocolError),
    "an endless length": (OK + b"content-length: 99999999999999999999\r\n\r\nhello", ProtocolError),
    "an empty length": (OK + b"content-length:\r\n\r\nhello", ProtocolError),
    "a negative chunk": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", ProtocolError),
    "an endless chunk": (CHUNKED + b"fffffffffffffffff\r\nhello", ProtocolError),
    "a chunk longer than it says": (CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", ProtocolError),
    "bare line feeds": (b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello", ProtocolError),
    "a folded header": (OK + b"x-a: b\r\n c\r\ncontent-length: 5\r\n\r\nhello", ProtocolError),
    "a space before the colon": (OK + b"content-length : 5\r\n\r\nhello", ProtocolError),
    "a zero byte in a header": (OK + b"x-a: b\0\r\ncontent-length: 5\r\n\r\nhello", ProtocolError),
    "a long head": (OK + b"x-a: " + b"b" * 70_000, ProtocolError),
    "many headers": (OK + b"x-a: b\r\n" * 10_000, ProtocolError),
    "many interim answers": (CONTINUE * 3_000, ProtocolError),
    "a long trailer": (CHUNKED + b"0\r\nx-a: " + b"b" * 70_000, ProtocolError),
    "a long chunk extension": (CHUNKED + b"5;a=" + b"b" * 140_000, ProtocolError),
}


@pytest.mark.parametrize(("answer", "meaning"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_has_one_meaning_and_ends_the_connection(
    run: Run[None], answer: bytes, meaning: type[HttpError]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        if meaning is not Disconnected:
            await peer.until_left()  # the client goes by itself

    async def test() -> None:
        async with asking(script) as (origin, server):
            with pytest.raises(HttpError) as fault:
                await body_of(await post(origin))
            assert type(fault.value) is meaning
            assert origin.name in str(fault.value)
            await server.until_idle()
            await until(lambda: not origin.open_connections)
            assert len(server.peers) == 1, "only a kept connection is worth a second attempt"

    run(test())


@pytest.mark.parametrize("sent", [b"", OK, OK + b"content-length: 5\r\n\r\nhe", OK + b"\r\nhello", CHUNKED])
def test_a_reset_is_a_disconnection_also_where_an_end_would_not_be(run: Run[None], sent: bytes) -> None:
    async def test() -> None:
        read = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(sent)
            if b"hello" in sent:
                await read.wait()
            peer.reset()

        async def ask(origin: Origin) -> None:
            response = await post(origin)
            while await response.read(LONG_SECONDS):
                read.set()

        async with asking(script) as (origin, server):
            with pytest.raises(Disconnected):
                await ask(origin)
            await server.until_idle()

    run(test())


def test_what_came_before_a_fault_is_read_first(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await get(origin)
            await server.until_idle()
            await until(lambda: not origin.open_connections)
            assert await response.read(LONG_SECONDS) == b"hello"
            for _ in range(2):
                with pytest.raises(Disconnected):
                    await response.read(LONG_SECONDS)

    run(test())


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://localhost:{port}", "https://127.0.0.1:{port}"])
def test_nobody_there_is_a_failed_connect(run: Run[None], url: str) -> None:
    async def test() -> None:
        origin = Origin(url.format(port=unused_port()))
        with pytest.raises(ConnectFailed, match=origin.name):
            await get(origin)

    run(test())


def test_a_name_that_cannot_be_one_is_a_failed_connect(run: Run[None]) -> None:
    async def test() -> None:
        with pytest.raises(ConnectFailed):
            await get(Origin(f"http://{'a' * 70}.example"))

    run(test())


# Time limits


class DeafLoop(WiredLoop):
    """Every connect lasts for ever."""

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()


def test_a_connect_that_lasts_too_long_is_a_failed_connect() -> None:
    async def test() -> None:
        with pytest.raises(ConnectFailed, match="in time"):
            await get(Origin("http://engine", connect_timeout_seconds=SHORT_SECONDS))
        with pytest.raises(ConnectFailed, match="in time"):
            await Origin("http://engine").request("GET", "/", timeout_seconds=SHORT_SECONDS)

    with asyncio.Runner(loop_factory=DeafLoop) as runner:
        run_strictly(runner, test())


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", CONTINUE])
def test_a_head_that_does_not_come_is_a_time_out_and_ends_the_connection(run: Run[None], sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, server):
            with pytest.raises(TimedOut):
                await origin.request("POST", "/", b"{}", timeout_seconds=SHORT_SECONDS)
            await server.until_idle()
            await until(lambda: not origin.open_connections)
            assert len(server.peers) == 1

    run(test())


@pytest.mark.parametrize("how", ["read", "read_all"])
def test_a_body_that_does_not_come_is_a_time_out_and_ends_the_connection(run: Run[None], how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await get(origin)
            if how == "read":
                assert await response.read(SHORT_SECONDS) == b"hello"
            with pytest.raises(TimedOut):
                await (response.read(SHORT_SECONDS) if how == "read" else response.read_all(9, SHORT_SECONDS))
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())


def test_bytes_that_bring_no_body_do_not_move_the_limit(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n5;")
        while True:
            await peer.send(b"a")
            await asyncio.sleep(SHORT_SECONDS / 10)

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await get(origin)
            assert await response.read(LONG_SECONDS) == b"hello"
            with pytest.raises(TimedOut):
                await response.read(SHORT_SECONDS)
            await server.until_idle()

    run(test())


def test_a_limit_is_that_of_its_own_wait_whichever_was_set_before(run: Run[None]) -> None:
    """One alarm serves a connection through all its waits, shorter and longer ones."""

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.send(CHUNKED + b"1\r\nx\r\n")
            await asyncio.sleep(SHORT_SECONDS * 2)
            await peer.send(b"1\r\ny\r\n0\r\n\r\n")
        await peer.until_left()

    async def test() -> None:
        async with asking(script, idle_seconds=SHORT_SECONDS) as (origin, server):
            for _ in range(2):
                response = await origin.request("GET", "/", timeout_seconds=SHORT_SECONDS)
                assert await response.read(SHORT_SECONDS) == b"x"
                assert await response.read(LONG_SECONDS) == b"y"
                assert await response.read(SHORT_SECONDS) == b""
            assert len(server.peers) == 1

    run(test())


def test_an_idle_caller_is_no_time_out(run: Run[None]) -> None:
    """Whoever does not read is slow; only a server can be late."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\nx\r\n")
        await asyncio.sleep(SHORT_SECONDS * 3)
        await peer.send(b"1\r\ny\r\n0\r\n\r\n")
        await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, _):
            response = await origin.request("GET", "/", timeout_seconds=SHORT_SECONDS)
            assert await response.read(SHORT_SECONDS) == b"x"
            await asyncio.sleep(SHORT_SECONDS * 2)
            assert await response.read(LONG_SECONDS) == b"y"

    run(test())


# Connections that are kept


def test_requests_in_progress_have_a_connection_each(run: Run[None]) -> None:
    async def test() -> None:
        async with asking(answering(*[HELLO] * 3)) as (origin, server):
            await asyncio.gather(*[body_of(response) for response in [await get(origin), await get(origin)]])
            responses = await asyncio.gather(*[get(origin) for _ in range(3)])
            assert len(server.peers) == 3
            assert [await body_of(response) for response in responses] == [b"hello"] * 3

    run(test())


def test_the_connection_used_last_is_used_next() -> None:
    """So that those a burst has left over grow old and are closed."""

    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        asked = [asyncio.create_task(get(origin)) for _ in range(3)]
        await until(lambda: len([wire for wire in loop.wires if wire.written]) == 3)
        for wire in (loop.wires[0], loop.wires[2], loop.wires[1]):
            wire.hear(HELLO)
            wire.written = b""
        await asyncio.gather(*asked)
        for _ in range(3):
            again = asyncio.create_task(get(origin))
            assert await play(loop, HELLO) is loop.wires[1]
            await again
        await origin.close()

    run_wired(test)


def test_one_alarm_serves_a_connection_and_is_hardly_ever_moved() -> None:
    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        loop.alarms.clear()
        for _ in range(50):
            asked = asyncio.create_task(post(origin))
            await play(loop, CHUNKED)
            response = await asked
            reading = asyncio.create_task(response.read(LONG_SECONDS / 2))
            await play_on(loop, b"5\r\nhello\r\n")
            assert await reading == b"hello"
            reading = asyncio.create_task(response.read(LONG_SECONDS))
            await play_on(loop, b"0\r\n\r\n")
            assert await reading == b""
        alarms = [alarm for alarm in loop.alarms if alarm.when() < loop.time() + LONG_SECONDS]
        assert len([alarm for alarm in alarms if not alarm.cancelled()]) == 1
        assert len(alarms) <= 5
        await origin.close()

    run_wired(test)


def test_no_more_connections_are_kept_than_allowed(run: Run[None]) -> None:
    async def test() -> None:
        async with asking(answering(HELLO, HELLO), idle_connections=2) as (origin, server):
            responses = await asyncio.gather(*[get(origin) for _ in range(5)])
            for response in responses:
                assert await body_of(response) == b"hello"
            await until(lambda: origin.open_connections == 2)
            assert origin.idle_connections == 2
            assert len(server.peers) == 5

    run(test())


@pytest.mark.parametrize("announced", [b"", b"keep-alive: timeout=60\r\n"])
def test_a_connection_is_not_kept_for_longer_than_its_time(run: Run[None], announced: bytes) -> None:
    async def test() -> None:
        answer = OK + announced + b"content-length: 5\r\n\r\nhello"
        async with asking(answering(answer, answer), idle_seconds=SHORT_SECONDS) as (origin, server):
            assert await body_of(await get(origin)) == b"hello"
            assert origin.idle_connections == 1
            await server.until_idle()  # the server waits for the client to leave
            await until(lambda: not origin.open_connections)

    run(test())


def test_what_the_server_announces_is_kept_a_second_short_of(run: Run[None]) -> None:
    async def test() -> None:
        answer = OK + b"keep-alive: timeout=3\r\ncontent-length: 5\r\n\r\nhello"
        async with asking(answering(answer), idle_seconds=LONG_SECONDS) as (origin, _):
            assert await body_of(await get(origin)) == b"hello"
            (connection,) = origin._idle
            assert 1 < connection.deadline - asyncio.get_running_loop().time() <= 2

    run(test())


def test_a_connection_past_its_time_is_not_used_though_its_alarm_has_not_rung() -> None:
    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        asked = asyncio.create_task(post(origin))
        first = await play(loop, HELLO)
        await asked
        (connection,) = origin._idle
        connection.deadline = loop.time()
        asked = asyncio.create_task(post(origin))
        second = await play(loop, HELLO)
        await asked
        assert first.ended
        assert not second.ended
        await origin.close()

    run_wired(test)


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", b"x", b"\r\n"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_kept_connection_on_which_anything_happens_is_dropped(run: Run[None], farewell: bytes, reset: bool) -> None:
    async def test() -> None:
        leave = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(HELLO)
            await leave.wait()
            await peer.send(farewell)
            if reset:
                peer.reset()
            elif farewell:
                await peer.until_left()

        async with asking(script) as (origin, server):
            assert await body_of(await get(origin)) == b"hello"
            assert origin.idle_connections == 1
            leave.set()
            await server.until_idle()
            await until(lambda: not origin.open_connections)
            assert await body_of(await get(origin)) == b"hello"

    run(test())


@pytest.mark.parametrize("reset", [False, True])
def test_a_request_on_a_kept_connection_that_dies_unanswered_is_sent_once_more(run: Run[None], reset: bool) -> None:
    async def test() -> None:
        bodies: list[bytes] = []

        async def script(peer: Peer) -> None:
            if len(server.peers) == 1:
                await peer.request()
                await peer.send(HELLO[:10], HELLO[10:])
                bodies.append((await peer.request()).body)
                if reset:
                    peer.reset()
            else:
                bodies.append((await peer.request()).body)
                await peer.send(HELLO)
                await peer.until_left()

        async with asking(script) as (origin, server):
            assert await body_of(await post(origin)) == b"hello"
            assert await body_of(await post(origin, b"again")) == b"hello"
            assert bodies == [b"again", b"again"]
            assert len(server.peers) == 2

    run(test())


@pytest.mark.parametrize("also", ["the new connection dies", "a byte has come", "it is too late"])
def test_it_is_sent_once_more_only_then(run: Run[None], also: str) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if len(server.peers) > 1:
                return
            await peer.send(HELLO)
            await peer.request()
            if also == "a byte has come":
                await peer.send(b"H")
            elif also == "it is too late":
                await peer.until_left()

        async with asking(script) as (origin, server):
            assert await body_of(await post(origin)) == b"hello"
            with pytest.raises(TimedOut if also == "it is too late" else Disconnected):
                await origin.request("POST", "/", timeout_seconds=SHORT_SECONDS)
            assert len(server.peers) == (2 if also == "the new connection dies" else 1)

    run(test())


def test_many_dead_connections_cost_one_attempt(run: Run[None]) -> None:
    """A server that restarts leaves many; a request does not try them one after another."""

    async def test() -> None:
        died = 0

        async def script(peer: Peer) -> None:
            nonlocal died
            await peer.request()
            await peer.send(HELLO)
            await peer.request()
            died += 1

        async with asking(script) as (origin, server):
            for response in await asyncio.gather(*[get(origin) for _ in range(5)]):
                await body_of(response)
            assert await body_of(await get(origin)) == b"hello"
            assert died == 1
            assert len(server.peers) == 6

    run(test())


@pytest.mark.parametrize("surplus", [b"H", b"x", b"HTTP/1.1 200", HELLO, CONTINUE, b"\0" * 1000])
@pytest.mark.parametrize("answer", [HELLO, HELLO_CHUNKED])
def test_an_answer_with_something_behind_it_is_read_and_its_connection_dropped(
    run: Run[None], answer: bytes, surplus: bytes
) -> None:
    async def test() -> None:
        async with asking(answering(answer + surplus)) as (origin, server):
            assert await body_of(await get(origin)) == b"hello"
            await server.until_idle()
            assert await body_of(await get(origin)) == b"hello"
            assert len(server.peers) == 2

    run(test())


def test_a_server_that_speaks_before_it_is_asked_is_not_asked() -> None:
    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        connect = loop.create_connection

        async def rude(*args: Any, **options: Any) -> Any:
            wire, protocol = await connect(*args, **options)
            wire.hear(HELLO)
            await passes(2)  # it is lost before the client goes on
            return wire, protocol

        loop.create_connection = rude  # type: ignore[method-assign]
        with pytest.raises(Disconnected):
            await get(origin)
        assert loop.wires[0].written == b""
        assert origin.open_connections == 0

    run_wired(test)


# Answers that come before the request is out


def test_an_early_answer_is_read_and_its_connection_dropped(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nhello")
        await asyncio.Event().wait()  # and the body stays unread

    async def test() -> None:
        async with asking(script) as (origin, _):
            response = await post(origin, b"x" * 32 * 1024 * 1024)
            assert response.status == 413
            assert await body_of(response) == b"hello"
            await until(lambda: not origin.open_connections)

    run(test())


def test_an_early_answer_without_an_end_is_read_until_it_is_closed(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n\r\n", b"hello")
        await asyncio.Event().wait()

    async def test() -> None:
        async with asking(script) as (origin, _):
            response = await post(origin, b"x" * 32 * 1024 * 1024)
            assert response.status == 413
            assert await response.read(LONG_SECONDS) == b"hello"
            response.close()
            await until(lambda: not origin.open_connections)

    run(test())


def test_a_connection_whose_request_is_not_out_is_not_kept() -> None:
    async def test(loop: WiredLoop) -> None:
        loop.unwritten_bytes = 1
        origin = Origin("http://engine")
        asked = asyncio.create_task(post(origin))
        wire = await play(loop, HELLO)
        assert await body_of(await asked) == b"hello"
        assert wire.ended
        assert origin.idle_connections == 0

    run_wired(test)


# Slow readers


def test_a_server_waits_for_a_reader_that_does_not_read(run: Run[None]) -> None:
    size = 32 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.push(OK + b"content-length: %d\r\n\r\n" % size)
        peer.push(b"x" * size)
        await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await get(origin)
            await passes(1000)  # enough to send it all: a pass moves some 64 KiB or more
            assert server.peers[0].unsent_bytes > size / 2, "the rest is with the kernel"
            assert sum(map(len, response._pieces)) <= http.UNREAD_LIMIT_BYTES + 256 * 1024  # a read of either loop
            assert len(await body_of(response)) == size
            assert origin.idle_connections == 1, "it has been read to its end"

    run(test())


def test_a_connection_left_in_the_middle_of_a_large_body_is_given_up(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.push(OK + b"content-length: 33554432\r\n\r\n" + b"x" * 33554432)
        await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await get(origin)
            await passes(100)
            response.close()
            response.close()
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())


def test_reading_stops_at_the_limit_and_goes_on_when_all_is_read() -> None:
    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        asked = asyncio.create_task(post(origin))
        wire = await play(loop, OK + b"content-length: 100000\r\n\r\n")
        response = await asked
        states = [wire.paused]
        for size_bytes in (http.UNREAD_LIMIT_BYTES - 100, 101):
            wire.hear(b"x" * size_bytes)
            states.append(wire.paused)
        assert len(await response.read(LONG_SECONDS)) == http.UNREAD_LIMIT_BYTES + 1
        states.append(wire.paused)
        assert states == [False, False, True, False]
        wire.hear(b"x" * (100000 - http.UNREAD_LIMIT_BYTES - 1))
        assert len(await body_of(response)) == 100000 - http.UNREAD_LIMIT_BYTES - 1
        assert origin.idle_connections == 1
        await origin.close()

    run_wired(test)


def test_a_long_body_is_no_long_head() -> None:
    """However much has been read before, bytes that bring no body are counted from there on."""

    async def test(loop: WiredLoop) -> None:
        origin = Origin("http://engine")
        asked = asyncio.create_task(post(origin))
        wire = await play(loop, CHUNKED)
        response = await asked
        for _ in range(70):
            wire.hear(b"400\r\n" + b"x" * 0x400 + b"\r\n")
            assert len(await response.read(LONG_SECONDS)) == 0x400
        wire.hear(b"5\r\n")
        wire.hear(b"hello\r\n0\r\n\r\n")
        assert await body_of(response) == b"hello"
        await origin.close()

    run_wired(test)


# Leaving


def test_a_response_closed_early_tells_the_server_at_once(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await peer.until_left()

    async def test() -> None:
        async with asking(script) as (origin, server):
            response = await get(origin)
            response.close()
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())


@pytest.mark.parametrize("where", ["head", "read", "read_all"])
def test_cancelling_tells_the_server_at_once(run: Run[None], where: str) -> None:
    async def test() -> None:
        reached = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if where != "head":
                await peer.send(CHUNKED)
            reached.set()
            await peer.until_left()

        async def ask(origin: Origin) -> None:
            response = await get(origin)
            await (response.read(LONG_SECONDS) if where == "read" else body_of(response))

        async with asking(script) as (origin, server):
            asked = asyncio.create_task(ask(origin))
            await reached.wait()
            await passes(5)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())


def test_cancelling_at_any_moment_leaves_no_connection_in_use(run: Run[None]) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(CHUNKED, b"5\r\n", b"hello\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n")

    async def ask(origin: Origin) -> None:
        response = await get(origin)
        while await response.read(LONG_SECONDS):
            pass
        response.close()

    async def test() -> None:
        async with asking(script) as (origin, _):
            finished = 0
            for moment in range(60):
                asked = asyncio.create_task(ask(origin))
                await passes(moment)
                asked.cancel()
                (end,) = await asyncio.gather(asked, return_exceptions=True)
                finished += end is None
                await until(lambda: origin.open_connections == origin.idle_connections)
            assert 0 < finished < 60, "the moments reach from before the request to after its end"
            await ask(origin)

    run(test())


def test_a_cancelled_connect_leaves_no_connection(run: Run[None]) -> None:
    async def test() -> None:
        async with RawServer(answering(HELLO)) as server:
            for moment in range(10):
                origin = Origin(server.url)
                asked = asyncio.create_task(get(origin))
                await passes(moment)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
                await until(lambda: origin.open_connections == origin.idle_connections)  # noqa: B023  # awaited here
                await origin.close()
            await server.until_idle()

    run(test())


def test_closing_an_origin_ends_what_is_in_progress_and_refuses_what_comes(run: Run[None]) -> None:
    async def test() -> None:
        reached = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED)
            reached.set()
            await peer.until_left()

        async with RawServer(script) as server:
            origin = Origin(server.url)
            reading = asyncio.create_task(body_of(await get(origin)))
            await reached.wait()
            await passes(5)
            await origin.close()
            assert origin.open_connections == 0
            with pytest.raises(Disconnected):
                await reading
            await origin.close()
            with pytest.raises(ConnectFailed, match="closed"):
                await get(origin)
            await server.until_idle()

    run(test())


def test_a_connect_that_succeeds_after_the_close_is_of_no_use(run: Run[None]) -> None:
    async def test() -> None:
        async with RawServer(answering(HELLO)) as server:
            origin = Origin(server.url)
            asked = asyncio.create_task(get(origin))
            await passes(1)
            await origin.close()
            with pytest.raises(HttpError):
                await asked
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())


# TLS


@asynccontextmanager
async def asking_safely(script: Script, host: str, *, trusting: bool) -> AsyncIterator[tuple[Origin, RawServer]]:
    authority = trustme.CA()
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(there)
    here = ssl.create_default_context() if trusting else None
    if here is not None:
        authority.configure_trust(here)
    async with RawServer(script, tls=there) as server:
        origin = Origin(f"https://{host}:{server.port}", tls=here)
        try:
            yield origin, server
        finally:
            await origin.close()


def test_tls_carries_several_answers_over_one_connection(run: Run[None]) -> None:
    async def test() -> None:
        async with asking_safely(answering(HELLO, HELLO_CHUNKED), "localhost", trusting=True) as (origin, server):
            assert await body_of(await get(origin)) == b"hello"
            assert await body_of(await get(origin)) == b"hello"
            assert len(server.peers) == 1

    run(test())


@pytest.mark.parametrize(
    ("host", "trusting"), [("localhost", False), ("127.0.0.1", True)], ids=["unknown", "another's"]
)
def test_a_certificate_that_does_not_hold_is_a_failed_connect(run: Run[None], host: str, trusting: bool) -> None:
    async def test() -> None:
        async with asking_safely(answering(HELLO), host, trusting=trusting) as (origin, server):
            with pytest.raises(ConnectFailed):
                await get(origin)
            assert not server.peers, "nothing has been said"

    run(test())


def test_tls_stalls_ends_and_leaves_as_plain_tcp_does(run: Run[None]) -> None:
    size = 32 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.push(OK + b"\r\n" + b"x" * size)
        await peer.until_left()

    async def test() -> None:
        async with asking_safely(script, "localhost", trusting=True) as (origin, server):
            response = await get(origin)
            await passes(1000)
            assert sum(map(len, response._pieces)) < size / 4
            assert await response.read(LONG_SECONDS)
            response.close()
            await server.until_idle()
            await until(lambda: not origin.open_connections)

    run(test())
