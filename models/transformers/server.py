"""Serves one model, one answer at a time, to who has the key: HTTP of the standard library around `generation`."""

import hmac
import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.transformers.text import Detokenizer, Stops
from models.transformers.wire import Answer, Asked, Count, Piece, Refused, asked_of, error_of

BODY_LIMIT_BYTES = 64 << 20
IDLE_SECONDS = 600.0  # of a connection that a client keeps open
TURN_POLL_SECONDS = 0.2  # how often one who waits looks whether its client has left


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model. `encode` makes ids of a prompt; `generate(ids, most_tokens, asked, go_on)` tokens with `id`,
    `logprob` and `others`; `decode` a text of ids.
    """

    name: str
    context_tokens: int
    ends: frozenset[int]
    encode: Callable[[Asked], list[int]]
    decode: Callable[[Sequence[int]], str]
    generate: Callable[[list[int], int, Asked, Callable[[], bool]], Iterator[Any]]


def answered(served: Served, asked: Asked, go_on: Callable[[], bool]) -> Iterator[tuple[str, list[Piece], str | None]]:
    """Texts, each with its tokens; the last has the reason why it ended. Raises Refused before the first."""
    ids = served.encode(asked)
    room = served.context_tokens - len(ids)
    if room < 1:
        message = f"the prompt has {len(ids)} tokens, and the maximum context length is {served.context_tokens}"
        raise Refused("messages" if asked.chats else "prompt", message, code="context_length_exceeded")
    most_tokens = room if asked.max_tokens is None else min(asked.max_tokens, room)
    yield "", [], None if ids else "stop"
    texts, stops = Detokenizer(served.decode), Stops(asked.stop)
    for token in served.generate(ids, most_tokens, asked, go_on):
        if token.id in served.ends:
            yield stops.rest(), [], "stop"
            return
        text = texts.feed(token.id)
        others = [(served.decode([id]), logprob) for id, logprob in token.others]
        piece = Piece(text, served.decode([token.id]), token.logprob, others)
        told = stops.feed(text)
        yield told, [piece], "stop" if stops.found else None
        if stops.found:
            return
    yield stops.rest(), [], "length"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: "Server"

    def do_GET(self) -> None:
        self._tell(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        served = self.server.served
        try:
            asked = self._asked()
        except Refused as error:
            self._tell(400, error_of(error))
            return
        if asked is None:
            return
        if self.path.endswith("/input_tokens"):
            self._tell(200, {"object": "response.input_tokens", "input_tokens": len(served.encode(asked))})
            return
        if not self._wait_for_turn():
            self.close_connection = True
            return
        try:
            self._answer(served, asked)
        except Refused as error:
            self._tell(400, error_of(error))
        except OSError:  # the client has left
            self.close_connection = True
        finally:
            self.server.turn.release()

    def _asked(self) -> Asked | None:
        """None where an answer has been written. Raises Refused."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > BODY_LIMIT_BYTES:
            self.close_connection = True
            self._tell(413, {"error": {"message": "the body has no length, or is too large"}})
            return None
        body = self.rfile.read(int(length))
        given = self.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.server.api_key.encode()):
            self._tell(401, {"error": {"message": "wrong key"}})
            return None
        chats = {"/v1/chat/completions": True, "/v1/completions": False, "/v1/chat/completions/input_tokens": True}
        if self.path not in chats:
            self._tell(404, {"error": {"message": f"nothing is at {self.path[:100]}"}})
            return None
        try:
            return asked_of(json.loads(body), chats=chats[self.path])
        except (ValueError, RecursionError) as error:
            raise Refused("body", "is no JSON") from error

    def _wait_for_turn(self) -> bool:
        """Whether it came before the client left."""
        while not self.server.turn.acquire(timeout=TURN_POLL_SECONDS):
            if self._left():
                return False
        if self._left():
            self.server.turn.release()
            return False
        return True

    def _answer(self, served: Served, asked: Asked) -> None:
        pieces = answered(served, asked, lambda: not self._left())
        next(pieces)  # what is refused is refused before a status is written
        count = Count(len(served.encode(asked)))
        answer = Answer(asked, served.name, count)
        if asked.stream:
            self._stream(answer, pieces)
            return
        text, told, reason = "", list[Piece](), "length"
        for part, new, ended in pieces:
            text, told, reason = text + part, told + new, ended or reason
            count.completion_tokens += len(new)
        if not self._left():
            self._tell(200, answer.whole(text, told, reason))

    def _stream(self, answer: Answer, pieces: Iterator[tuple[str, list[Piece], str | None]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        reason = "length"
        try:
            for text, new, ended in pieces:
                answer.count.completion_tokens += len(new)
                reason = ended or reason
                if text or (new and answer.asked.logprobs is not None):
                    self._event(answer.chunk(text, new))
            self._event(answer.last(reason))
            if answer.asked.include_usage:
                self._event(answer.usage())
        except (RuntimeError, ValueError, MemoryError) as error:  # the status is written: the stream itself must say so
            self._event({"error": {"message": f"the engine failed: {type(error).__name__}", "type": "server_error"}})
            raise
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, document: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _tell(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _left(self) -> bool:
        """Whether the client has closed the connection; it sends nothing while it waits for an answer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of a request is logged."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, served: Served, api_key: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.served = served
        self.api_key = api_key
        self.turn = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line, and no word of what was asked."""
        error = sys.exc_info()[1]
        print(time.strftime("%FT%T"), f"an answer failed: {type(error).__name__}: {error}"[:500], file=sys.stderr)
