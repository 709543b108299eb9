"""Answers that replicas share in Redis or Valkey. Needs the extra `redis`.

One that is slow or gone adds at most a deadline to a request, is let alone for a while then, and has nothing meanwhile.
How much it keeps and what goes first are its own settings: `maxmemory` with `allkeys-lru`. The Redis of the limits may
not evict, so a cache of any size has one of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.limits.redis import DEADLINE_SECONDS, PAUSE_SECONDS

log = structlog.get_logger(__name__)

PREFIX = "pointsman:answer:"
Result = TypeVar("Result")


class RedisStore:
    def __init__(
        self,
        client: Redis,
        ttl_seconds: int,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._ttl_seconds = ttl_seconds
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._paused_until = float("-inf")
        self._silent = False

    async def get(self, key: str) -> bytes | None:
        answer = await self._ask(lambda: self._client.get(PREFIX + key))
        return answer if isinstance(answer, bytes) else None

    async def put(self, key: str, answer: bytes) -> None:
        await self._ask(lambda: self._client.set(PREFIX + key, answer, ex=self._ttl_seconds))

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, question: Callable[[], Awaitable[Result]]) -> Result | None:
        """None when there is no answer in time; nobody asks again for a while then."""
        if self._clock() < self._paused_until:
            return None
        try:
            async with asyncio.timeout(self._deadline_seconds):
                answer = await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._paused_until = self._clock() + PAUSE_SECONDS
            if not self._silent:
                self._silent = True
                log.error("no answer is found in the cache: Redis does not answer", error=type(error).__name__)
            return None
        if self._silent:
            self._silent = False
            log.info("the cache is there again: Redis answers")
        return answer
