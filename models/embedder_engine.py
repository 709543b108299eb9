"""An engine that turns texts into vectors in this process: OpenAI's embeddings protocol around `models.embedder`."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import anyio.to_thread
import orjson
import structlog

from models.catalog import Model
from models.engine import (
    Call,
    ContextTooLong,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Health,
    Operation,
    Reply,
    Usage,
    Whole,
)

if TYPE_CHECKING:
    from models.embedder import Embedder, Vectors

log = structlog.get_logger(__name__)

REMEDY = "pip install 'pointsman[embedder]'"
# So much is worked on at a time: a client who left is noticed in between, and nobody else waits for long.
PIECE_TEXTS = 64
PIECE_CHARACTERS = 32_768  # 6 ms
INLINE_CHARACTERS = 4096  # under a millisecond: a thread would cost others as much


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a body asks for, checked."""

    texts: Sequence[str]
    dimensions: int
    base64: bool

    @classmethod
    def of(cls, body: Mapping[str, Any], dimensions: Sequence[int]) -> Self:
        """Raises EngineRefused."""
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _refused("input", "must be a string or a list of strings: token ids mean nothing here")
        if not texts or not all(texts):
            raise _refused("input", "must not be empty, nor hold an empty string: nothing has no direction")
        size = dimensions[-1] if body.get("dimensions") is None else body["dimensions"]
        if size not in dimensions:
            raise _refused("dimensions", f"must be one of {', '.join(map(str, dimensions))}")
        encoding = body.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            raise _refused("encoding_format", "must be float or base64")
        return cls(texts, size, encoding == "base64")

    @property
    def is_small(self) -> bool:
        return len(self.texts) <= PIECE_TEXTS and sum(map(len, self.texts)) <= INLINE_CHARACTERS

    def pieces(self) -> Iterator[range]:
        """The places of the texts that are worked on together."""
        start, characters = 0, 0
        for place, text in enumerate(self.texts):
            characters += len(text)
            if place > start and (characters > PIECE_CHARACTERS or place - start == PIECE_TEXTS):
                yield range(start, place)
                start, characters = place, len(text)
        yield range(start, len(self.texts))


@dataclass(frozen=True, slots=True)
class _Done:
    """One piece's vectors, as items of the answer's list."""

    items: bytes
    tokens: int
    seconds: float


class EmbedderEngine:
    """An Engine. `embedder` is there once it is READY, for whoever in this process wants vectors without a request."""

    def __init__(self, model: Model) -> None:
        assert model.package is not None
        self._model = model
        self._package = model.package
        self._health = Health(EngineState.STOPPED)
        self._loading: asyncio.Task[None] | None = None
        self.embedder: Embedder | None = None

    def health(self) -> Health:
        return self._health

    async def start(self) -> None:
        self._health = Health(EngineState.STARTING, "the model is being loaded")
        self._loading = asyncio.create_task(self._load(), name=f"load {self._model.name}")

    async def stop(self) -> None:
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
        self.embedder = None
        self._health = Health(EngineState.STOPPED)

    async def begin(self, call: Call) -> Reply:
        embedder = self.embedder
        if embedder is None:
            raise EngineUnavailable(f"{self._model.name} cannot be called now: it is {self._health.state}")
        if call.operation is not Operation.EMBEDDING:
            raise _refused("model", f"{self._model.name} makes embeddings and answers nothing else")
        asked = _Asked.of(call.body, embedder.dimensions)
        work = partial(self._work, embedder, asked)
        if asked.is_small:
            done = [work(range(len(asked.texts)))]
        else:
            done = [await anyio.to_thread.run_sync(work, places) for places in asked.pieces()]
        usage = Usage(sum(piece.tokens for piece in done), 0)
        return Whole(self._document(done, usage), usage, sum(piece.seconds for piece in done))

    async def _load(self) -> None:
        start = perf_counter()
        try:
            self.embedder = await anyio.to_thread.run_sync(_embedder_of, self._package)
        except Exception as error:  # a package that is missing, another version, broken files: an operator's matter
            self._health = Health(EngineState.FAILED, f"{error}; install it with: {REMEDY}")
            log.warning("embedder failed", model=self._model.name, detail=self._health.detail)
        else:
            self._health = Health(EngineState.READY)
            log.info("embedder ready", model=self._model.name, seconds=round(perf_counter() - start, 3))

    def _work(self, embedder: "Embedder", asked: _Asked, places: range) -> _Done:
        """Raises ContextTooLong."""
        start = perf_counter()
        limit = self._model.context_tokens
        for place in places:  # before its tokens are counted, which takes long
            if len(asked.texts[place]) > limit * embedder.longest_token_characters:
                raise _too_long(place, f"more than {limit}", limit)
        tokens = embedder.tokens([asked.texts[place] for place in places])
        for place, ids in zip(places, tokens, strict=True):
            if len(ids) > limit:
                raise _too_long(place, str(len(ids)), limit)
        items = _items(embedder.vectors(tokens, asked.dimensions), places, base64=asked.base64)
        return _Done(items, sum(map(len, tokens)), perf_counter() - start)

    def _document(self, done: Sequence[_Done], usage: Usage) -> bytes:
        counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
        rest = orjson.dumps({"model": self._model.name, "usage": counts})
        parts = [b'{"object":"list","data":[']
        for piece in done:
            parts += (piece.items, b",")
        parts[-1] = b"]," + rest[1:]
        return b"".join(parts)  # megabytes, copied once


def _embedder_of(package: str) -> "Embedder":
    """Imported here, in a thread: it takes a while, and the packages may not be installed."""
    from models.embedder import Embedder

    return Embedder.load(package)


def _items(vectors: "Vectors", places: range, *, base64: bool) -> bytes:
    data = [
        {"object": "embedding", "index": place, "embedding": b64encode(row.astype("<f4")).decode() if base64 else row}
        for place, row in zip(places, vectors, strict=True)
    ]
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def _too_long(place: int, tokens: str, limit: int) -> ContextTooLong:
    return ContextTooLong(f"input[{place}] has {tokens} tokens; at most {limit} are taken: split it", param="input")


def _refused(param: str, message: str) -> EngineRefused:
    return EngineRefused(f"{param}: {message}", status=400, param=param)
