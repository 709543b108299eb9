"""A reply made of JSON documents, for engines that do not hand over OpenAI's bytes themselves. No I/O."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Self

import orjson

from models.engine import Call, EngineCut, EngineError, EngineUnavailable, Reply, Usage
from models.events import written


@dataclass(frozen=True, slots=True)
class Document:
    """One `chat.completion.chunk`, or the whole answer when it is not streamed; `usage` is counted up to here."""

    data: dict[str, Any]
    usage: Usage | None = None
    engine_seconds: float | None = None


class DocumentsReply(Reply):
    """Make it with `begin`. *documents* is closed with it, which is how an engine learns that nobody listens."""

    def __init__(self, documents: AsyncGenerator[Document, None], call: Call) -> None:
        super().__init__(b"")
        self._documents = documents
        self._call = call
        self._usage: Usage | None = None
        self._engine_seconds: float | None = None

    @classmethod
    async def begin(cls, documents: AsyncGenerator[Document, None], call: Call) -> Self:
        """Raises EngineError, in which case *documents* is closed."""
        reply = cls(documents, call)
        try:
            reply.first = await reply._next()
            if not reply.first:
                raise EngineUnavailable("the engine gave no answer")
        except BaseException:
            await reply.close()
            raise
        return reply

    @property
    def usage(self) -> Usage | None:
        return self._usage

    @property
    def engine_seconds(self) -> float | None:
        return self._engine_seconds

    async def more(self) -> bytes:
        try:
            return await self._next()
        except EngineCut:
            raise
        except EngineError as error:  # what could have been tried again before the first block cannot be any more
            raise EngineCut(error.message) from error

    async def _next(self) -> bytes:
        async for document in self._documents:
            self._usage = document.usage or self._usage
            self._engine_seconds = document.engine_seconds or self._engine_seconds
            if not self._call.stream:
                return orjson.dumps(document.data)
            if document.data.get("choices") or self._call.include_usage:
                return written(document.data)
        return b""

    async def _stop(self) -> None:
        await self._documents.aclose()
