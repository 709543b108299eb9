"""The splitter against a reference written from the standard, however the stream is cut."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import sse
from models.sse import EventSplitter, EventTooLong

STREAMS = 500
NASTY = (
    b"\xef\xbb\xbfdata: first\r\n\r\n: comment\rdata:no space\rdata:  two spaces\r\rdata\n\ndata:\ndata:\n\n"
    b'event: error\nid: 7\nretry: 10\ndata: {"text": "\xf0\x9f\x9a\x82 \xe2\x82\xac"}\r\n\ndatabase: no\nData: no\n\n'
    b"data: [DONE]\n\r\ndata: never ended"
)
lines = st.sampled_from(
    [
        *(
            "data: x",
            "data:x",
            "data:  x",
            "data:",
            "data: ",
            "data",
            "data: \N{STEAM LOCOMOTIVE}",
            "data:\N{EURO SIGN}",
        ),
        *(": comment", ":", "event: error", "id: 1", "retry: 5", "database: no", " data: no", "DATA: no", "data : no"),
        *("", "", "", "\ufeff", "\ufeffdata: x", "no colon", "data: a:b", "data::", "\0"),
    ]
).map(str.encode)
ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.lists(st.tuples(lines, ends).map(b"".join) | st.binary(max_size=4), max_size=25).map(b"".join)


@settings(max_examples=STREAMS)
@given(streams, st.lists(st.integers(min_value=0, max_value=400), max_size=40))
def test_payloads_do_not_depend_on_where_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    """Equal cuts make empty pieces, which change nothing either."""
    assert _fed(*_cut(stream, cuts)) == _fed(stream)


@settings(max_examples=STREAMS)
@given(streams)
def test_payloads_are_those_of_the_standard(stream: bytes) -> None:
    assert [payload.decode(errors="replace") for payload in _fed(stream)] == _reference(stream)


@pytest.mark.parametrize("size_bytes", range(1, len(NASTY)))
def test_every_size_of_piece_gives_the_same_payloads(size_bytes: int) -> None:
    pieces = [NASTY[at : at + size_bytes] for at in range(0, len(NASTY), size_bytes)]

    assert [payload.decode() for payload in _fed(*pieces)] == _reference(NASTY)


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: x\n\n", [b"x"]),
        (b"data:x\r\n\r\n", [b"x"]),
        (b"data: x\r\r", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data: one\ndata: two\n\n", [b"one\ntwo"]),
        (b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"]),  # the standard's own example
        (b": ping\n\ndata: x\n\n", [b"x"]),
        (b"data: x\n", []),
        (b"event: error\n\n", []),
        (b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
        (b"\n\xef\xbb\xbfdata: x\n\n", []),
        (b"", []),
    ],
)
def test_payloads_of_known_streams(stream: bytes, payloads: list[bytes]) -> None:
    assert _fed(stream) == payloads


def test_a_payload_comes_with_the_byte_that_ends_it() -> None:
    """Waiting for the LF that may follow a CR would hold every token back by one."""
    splitter = EventSplitter()

    assert splitter.feed(b"data: x\r") == []
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"\r") == [b"x"]
    assert splitter.feed(b"\n") == []


def test_an_empty_piece_inside_a_line_end_is_nothing() -> None:
    assert _fed(b"data: a\r", b"", b"\ndata: b\n\n") == [b"a\nb"]


def test_a_large_event_in_small_pieces_takes_time_in_proportion() -> None:
    event = b"data: " + b"x" * (2 << 20) + b"\n\n"
    started = time.process_time()
    payloads = _fed(*(event[at : at + 1024] for at in range(0, len(event), 1024)))

    assert payloads == [event[6:-2]]
    assert time.process_time() - started < 1  # 10 ms; copying what is held for every piece takes several seconds


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 100,
        b"data: " + b"x" * 100 + b"\n\n",
        b"data: xxxx\n" * 10,
        b"data\n" * 30,
        b": " + b"x" * 100 + b"\n",
        b"x" * 101,
    ],
    ids=["a line without end", "a line", "many lines", "many empty lines", "a comment", "garbage"],
)
@pytest.mark.parametrize("size_bytes", [1, 7, 1000])
def test_an_event_past_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, stream: bytes, size_bytes: int) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT_BYTES", 100)

    with pytest.raises(EventTooLong, match="longer than 100 bytes"):
        _fed(*(stream[at : at + size_bytes] for at in range(0, len(stream), size_bytes)))


@pytest.mark.parametrize("size_bytes", [1, 7, 10_000])
def test_the_limit_is_for_one_event_not_for_the_stream(monkeypatch: pytest.MonkeyPatch, size_bytes: int) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT_BYTES", 100)
    stream = (b"data: " + b"x" * 90 + b"\n\n" + b": ping\n" * 40) * 5

    assert _fed(*(stream[at : at + size_bytes] for at in range(0, len(stream), size_bytes))) == [b"x" * 90] * 5


def _fed(*pieces: bytes) -> list[bytes]:
    splitter = EventSplitter()
    return [payload for piece in pieces for payload in splitter.feed(piece)]


def _cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


def _reference(stream: bytes) -> list[str]:
    """WHATWG HTML, section 9.2.6, word for word and for a whole stream; only the data buffer is kept."""
    text = stream.decode("utf-8", errors="replace").removeprefix("\ufeff")  # "UTF-8 decode" strips one mark
    payloads, data_buffer = [], ""
    for line in re.split("\r\n|\n|\r", text)[:-1]:
        if line == "":
            if data_buffer != "":
                payloads.append(data_buffer.removesuffix("\n"))
            data_buffer = ""
        elif line.startswith(":"):
            continue
        else:
            field, value = line.split(":", 1) if ":" in line else (line, "")
            value = value[1:] if value.startswith(" ") else value
            if field == "data":
                data_buffer += value + "\n"
    return payloads
