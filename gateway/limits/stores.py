"""Where the limits are kept: `memory`, `database`, or the URL of a Redis. Opens the store and says what was spent."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import anyio.to_thread
import structlog
from sqlalchemy import Engine

from gateway.limits.claim import LimitStore, Unreachable
from gateway.limits.database import DatabaseStore
from gateway.limits.memory import MemoryStore
from gateway.limits.spent import spent

log = structlog.get_logger(__name__)

REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


class LimitsError(ValueError):
    """The store that the settings name cannot be; the message says what to change."""


def check_place(place: str) -> str:
    """*place*, when there is such a store. Raises LimitsError."""
    if place not in ("memory", "database") and not place.startswith(REDIS_SCHEMES):
        raise LimitsError(f"limits cannot be kept in {place.split('@')[-1]!r}; say memory, database or redis://HOST/0")
    return place


async def open_store(place: str, database: Engine) -> LimitStore:
    """The store, counting from what the ledger in *database* has. Raises LimitsError.

    One in memory is for one process: two would each allow the whole of every limit. A Redis that does not answer yet is
    no reason not to start; budgets are refused until it does.
    """

    async def from_ledger() -> Mapping[str, int]:
        return await anyio.to_thread.run_sync(spent, database, datetime.now(UTC))

    store: LimitStore
    if check_place(place) == "memory":
        store = MemoryStore()
    elif place == "database":
        store = DatabaseStore(database)
    else:
        try:
            from gateway.limits.redis import RedisStore, connect
        except ImportError as error:
            raise LimitsError("limits in Redis need the extra: pip install pointsman[redis]") from error
        store = RedisStore(connect(re.sub("^valkey", "redis", place)), from_ledger)  # the same protocol
    try:
        await store.seed(await from_ledger())
    except Unreachable as error:
        log.error("what was spent cannot be told to the store of limits yet", error=str(error))
    return store
