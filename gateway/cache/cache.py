"""The cache of answers on a request's path: is there one, and is this one to be kept. Knows requests, no HTTP.

An answer belongs to the model that would be called: `auto` finds what the decided model said, a new build nothing.
Two equal requests at the same time both call the model; the later answer stays.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson
import structlog

from gateway.cache.answers import Document, Strange, assembled, told
from gateway.cache.key import exact_key, holder_of, is_repeatable, likeness_key, likeness_text, looks_outside
from gateway.cache.replies import KEPT_LIMIT_BYTES, Noted, Replayed
from gateway.cache.section import CacheSection
from gateway.cache.stores import Store
from gateway.errors import InvalidRequest
from gateway.keys import Caller
from gateway.meter import Metrics
from gateway.schema import Asked
from gateway.shapes.answer import usage_of
from models.catalog import Model
from models.engine import Operation, Reply, Usage

if TYPE_CHECKING:
    from gateway.cache.neighbours import Neighbours

log = structlog.get_logger(__name__)

HEADER = "x-pointsman-cache"
EXACT, SEMANTIC = "exact", "semantic"


class Wish(StrEnum):
    """What a request says about the cache: neither look nor keep, or keep without looking."""

    OFF = "off"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class Semantic:
    """`thresholds`: of the templates of which it is proved that a kept answer may stand for another."""

    neighbours: "Neighbours"
    thresholds: Mapping[str, float]


class Cache:
    def __init__(
        self, settings: CacheSection, store: Store, metrics: Metrics, semantic: Semantic | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.lookups = metrics.cache_lookups
        self.semantic = semantic

    def search(
        self, asked: Asked, template: str | None, caller: Caller, headers: Mapping[bytes, bytes]
    ) -> "Search | None":
        """What the cache may do for a request; None for nothing. Raises InvalidRequest for a header it cannot read."""
        wish = _wish(headers)
        repeatable = self.settings.always or all(map(is_repeatable, asked.tellings))
        if wish is Wish.OFF or not repeatable or looks_outside(asked):
            return None
        return Search(self, asked, template, holder_of(caller, self.settings.shared_by), refreshes=wish is Wish.REFRESH)


class Search:
    """One request's. First `find`, and when that is in vain `keep`."""

    __slots__ = ("_asked", "_cache", "_holder", "_refreshes", "_template")

    def __init__(self, cache: Cache, asked: Asked, template: str | None, holder: str, *, refreshes: bool) -> None:
        self._cache = cache
        self._asked = asked
        self._template = template
        self._holder = holder
        self._refreshes = refreshes

    async def find(self, model: Model) -> Replayed | None:
        """What *model* answered before."""
        key = None if self._refreshes else exact_key(self._holder, model, self._asked.told(model.name))
        if key is None:
            return None
        if answer := await self._cache.store.get(key):
            return self._hit(answer, EXACT)
        self._cache.lookups.of(EXACT, "miss").inc()
        semantic = self._semantic
        return None if semantic is None else await self._alike(semantic, model)

    async def keep(self, reply: Reply, model: Model, *, is_limited: bool = False) -> Reply:
        """*reply* of *model*, kept once it has come to a good end. `is_limited`: to what the caller can pay, who may be
        another the next time.
        """
        ends = set(self._cache.settings.finish_reasons) - ({"length"} if is_limited else set())

        async def keep(blocks: Sequence[bytes], usage: Usage | None) -> None:
            document = self._document(blocks, usage, ends)
            if document is not None:
                await self._put(document, model)

        if self._asked.stream:
            return Noted(reply, keep)
        await keep([reply.first], reply.usage)
        return reply

    @property
    def _semantic(self) -> Semantic | None:
        semantic = self._cache.semantic
        return semantic if semantic is not None and self._template in semantic.thresholds else None

    async def _alike(self, semantic: Semantic, model: Model) -> Replayed | None:
        asked = self._asked.told(model.name)
        group = likeness_key(self._holder, model, asked)
        if group is None or self._template is None:
            return None
        nearest = semantic.neighbours.nearest(group, semantic.neighbours.vector(likeness_text(asked)))
        if nearest is not None and nearest[1] >= semantic.thresholds[self._template]:
            if answer := await self._cache.store.get(nearest[0]):
                return self._hit(answer, SEMANTIC)
            semantic.neighbours.forget(group, nearest[0])
        self._cache.lookups.of(SEMANTIC, "miss").inc()
        return None

    def _hit(self, answer: bytes, kind: str) -> Replayed:
        self._cache.lookups.of(kind, "hit").inc()
        asked, document = self._asked, orjson.loads(answer)
        blocks = told(document, asked.operation, include_usage=asked.include_usage) if asked.stream else [answer]
        return Replayed(blocks, usage_of(document), kind)

    def _document(self, blocks: Sequence[bytes], usage: Usage | None, ends: Set[str]) -> Document | None:
        """The whole answer, if it may be kept: it ended as it should, and it is known what it took."""
        if sum(map(len, blocks)) > KEPT_LIMIT_BYTES:
            return None
        if self._asked.stream and usage is None:
            return None
        try:
            document: Document = self._whole(blocks, usage)
        except Strange as problem:
            log.debug("an answer is not kept", reason=str(problem))
            return None
        if self._asked.operation is Operation.EMBEDDING:
            return document
        is_kept = document.get("usage") and all(choice.get("finish_reason") in ends for choice in document["choices"])
        return document if is_kept else None

    def _whole(self, blocks: Sequence[bytes], usage: Usage | None) -> Document:
        if self._asked.stream:
            assert usage is not None
            return assembled(blocks, self._asked.operation, usage)
        document: Document = orjson.loads(blocks[0])
        return document

    async def _put(self, document: Document, model: Model) -> None:
        asked = self._asked.told(model.name)
        key = exact_key(self._holder, model, asked)
        if key is None:
            return
        await self._cache.store.put(key, orjson.dumps(document))
        semantic = self._semantic
        group = likeness_key(self._holder, model, asked) if semantic is not None else None
        if semantic is not None and group is not None:
            semantic.neighbours.add(group, key, semantic.neighbours.vector(likeness_text(asked)))


def _wish(headers: Mapping[bytes, bytes]) -> Wish | None:
    said = headers.get(HEADER.encode())
    if said is None:
        return None
    try:
        return Wish(said.decode("latin-1").strip().lower())
    except ValueError as error:
        raise InvalidRequest(f"the header {HEADER} may say off or refresh", param=HEADER) from error
