"""Opens the cache that the settings describe. Knows settings and the libraries that a backend or an embedder needs."""

import structlog

from gateway.cache.cache import Cache, Semantic
from gateway.cache.embedding import CacheError, EmbedMaker
from gateway.cache.evidence import proved, read_tallies
from gateway.cache.section import CacheSection
from gateway.cache.stores import MemoryStore, Store
from gateway.meter import Metrics
from gateway.settings import Settings
from router.bar import parse_bar

log = structlog.get_logger(__name__)

STORED_BY = ("backend", "redis_url", "ttl_seconds", "max_bytes")


class CacheOpener:
    """Opens caches, one after the other as settings are read again; the answers stay where their store is the same."""

    def __init__(self, embed_maker: EmbedMaker) -> None:
        self._embed_maker = embed_maker
        self._stores: dict[tuple[object, ...], Store] = {}

    def open(self, settings: Settings, metrics: Metrics) -> Cache | None:
        """None when it is off: no code of the cache runs then. Raises CacheError."""
        if not settings.cache.enabled:
            return None
        return Cache(settings.cache, self._store(settings), metrics, self._semantic(settings))

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()

    def _store(self, settings: Settings) -> Store:
        place = (settings.redis_url, *(getattr(settings.cache, name) for name in STORED_BY))
        if place not in self._stores:
            self._stores[place] = _store(settings.cache, settings.cache.redis_url or settings.redis_url)
        return self._stores[place]

    def _semantic(self, settings: Settings) -> Semantic | None:
        bar = parse_bar(settings.bar, settings.confidence)
        if not settings.cache.semantic:
            return None
        thresholds, missing = proved(settings.cache.semantic, read_tallies(settings.data_dir), bar)
        for reason in missing:
            log.warning("a template is not answered from prompts alike", reason=reason)
        if not thresholds:
            return None
        from gateway.cache.neighbours import Neighbours

        return Semantic(Neighbours(self._embed_maker()), thresholds)


def _store(section: CacheSection, redis_url: str | None) -> Store:
    if section.backend == "memory":
        return MemoryStore(section.ttl_seconds, section.max_bytes)
    if redis_url is None:
        raise CacheError("cache.backend redis needs a Redis: set cache.redis_url or redis_url")
    try:
        from gateway.cache.redis import RedisStore
        from gateway.limits.redis import connect
    except ImportError as error:
        raise CacheError("a cache in Redis needs the extra: pip install pointsman[redis]") from error
    return RedisStore(connect(redis_url), section.ttl_seconds)
