"""How an answer is worded: OpenAI's completions as the engine wrote them, other protocols by translation. No I/O."""

import time
from types import ModuleType
from typing import Any, Protocol

import orjson

from gateway.errors import GatewayError
from gateway.shapes import Streaming
from models.engine import Usage
from models.events import documents_of, written

DONE = b"data: [DONE]\n\n"


class Voice(Protocol):
    """One answer: either `whole`, or `opening`, any number of `block`, and `closing` or `failure`."""

    async def whole(self, document: bytes) -> bytes: ...

    def opening(self, model: str) -> bytes: ...

    def block(self, block: bytes) -> bytes: ...

    async def closing(self, usage: Usage | None) -> bytes: ...

    def failure(self, error: GatewayError) -> bytes: ...


class Plain:
    """OpenAI's own completions: what the engine wrote. Holds nothing, so one serves every request."""

    async def whole(self, document: bytes) -> bytes:
        return document

    def opening(self, model: str) -> bytes:
        return b""

    def block(self, block: bytes) -> bytes:
        return block

    async def closing(self, usage: Usage | None) -> bytes:
        return DONE

    def failure(self, error: GatewayError) -> bytes:
        return written(error.body()) + DONE


PLAIN = Plain()


class Translated:
    """Another protocol. *shape* is a module of `gateway.shapes`, *body* the request as it came."""

    def __init__(self, shape: ModuleType, body: dict[str, Any], *, id: str) -> None:
        self._shape = shape
        self._body = body
        self._id = id
        self._created = int(time.time())
        self._stream: Streaming | None = None

    async def whole(self, document: bytes) -> bytes:
        completion = orjson.loads(document)
        answer = self._shape.from_chat(completion, self._body, id=self._id, created=self._created, now=int(time.time()))
        await self.ended(answer)
        return orjson.dumps(answer)

    def opening(self, model: str) -> bytes:
        self._stream = self._shape.Stream(self._body, id=self._id, created=self._created, model=model)
        return self._stream.begin()

    def block(self, block: bytes) -> bytes:
        stream = self._begun()
        return b"".join(map(stream.feed, documents_of(block)))

    async def closing(self, usage: Usage | None) -> bytes:
        stream = self._begun()
        events = stream.end(usage, int(time.time()))
        await self.ended(stream.result())
        return events

    def failure(self, error: GatewayError) -> bytes:
        """Also before the first block, when only comments have been sent."""
        opening = b"" if self._stream is not None else self.opening(str(self._body.get("model")))
        return opening + self._begun().fail(error)

    async def ended(self, answer: dict[str, Any]) -> None:
        """The answer is whole, and its last bytes are about to be sent."""

    def _begun(self) -> Streaming:
        assert self._stream is not None
        return self._stream
