"""An OpenAI-speaking engine that answers at once, as cheaply as Python can: the thing behind every measured gateway.

One process, `python -m tests.bench.mock_engine PORT`. It does not decode a request: it looks for two words in it. The
answers are written once, at import. Nothing it says is worth reading.
"""

import asyncio
import sys
from typing import cast

import httptools
import orjson
import uvloop

from tests.bench.wire import CHUNKS, MODEL, SPACED_MARK, SPACING_SECONDS, WORD

BACKLOG = 1024  # every client of the largest load connects in the same moment
USAGE = {"prompt_tokens": 80, "completion_tokens": CHUNKS, "total_tokens": 80 + CHUNKS}
HEAD = {"id": "chatcmpl-mock", "created": 1_700_000_000, "model": "mock"}
WHOLE_WORDS = 230  # makes the answer 1.6 KB
STREAM_MARKS = (b'"stream":true', b'"stream": true')


def _choice(**fields: object) -> list[dict[str, object]]:
    return [{"index": 0, **fields}]


def _plain(document: object) -> bytes:
    body = orjson.dumps(document)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(**fields: object) -> bytes:
    return _framed(b"data: " + orjson.dumps({**HEAD, "object": "chat.completion.chunk", **fields}) + b"\n\n")


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _texts() -> list[bytes]:
    texts = [f"{WORD}{place} " for place in range(CHUNKS)]
    return [_event(choices=_choice(delta={"content": text}, finish_reason=None)) for text in texts]


MESSAGE = {"role": "assistant", "content": WORD * WHOLE_WORDS}
WHOLE = _plain(
    {**HEAD, "object": "chat.completion", "choices": _choice(message=MESSAGE, finish_reason="stop"), "usage": USAGE}
)
# Whatever else a gateway asks of its engine before it trusts it: is it alive, which models has it?
ANYTHING = _plain({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "bench"}]})
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST, *OTHERS = _texts()
LAST = b"".join(
    [
        _event(choices=_choice(delta={}, finish_reason="stop")),
        _event(choices=[], usage=USAGE),
        _framed(b"data: [DONE]\n\n"),
        b"0\r\n\r\n",
    ]
)
AT_ONCE = b"".join([STREAM_HEAD, FIRST, *OTHERS, LAST])
STEPS = (STREAM_HEAD + FIRST, *OTHERS, LAST)


class Connection(asyncio.Protocol):
    """One gateway's connection: requests in, one after another, answers out."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        if self._parser.get_method() != b"POST":
            self._transport.write(ANYTHING)
        elif not any(mark in self._body for mark in STREAM_MARKS):
            self._transport.write(WHOLE)
        elif SPACED_MARK.encode() in self._body:
            self._step(0, self._loop.time())
        else:
            self._transport.write(AT_ONCE)

    def _step(self, place: int, start: float) -> None:
        """Write one chunk and see to the next, at its own time from the start on, so that lateness does not add up."""
        if self._transport.is_closing():
            return
        self._transport.write(STEPS[place])
        if place + 1 < len(STEPS):
            self._loop.call_at(start + (place + 1) * SPACING_SECONDS, self._step, place + 1, start)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=BACKLOG)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
