"""Where answers are kept: bytes by key, for a while. A store that cannot be asked has nothing: it never fails."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Protocol

ENTRY_BYTES = 256  # what an entry takes beside its answer, about: its key, its place, its end


class Store(Protocol):
    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, answer: bytes) -> None: ...

    async def close(self) -> None: ...


class MemoryStore:
    """Of one process: at most *max_bytes*, of which the longest unused go first, each for *ttl_seconds*."""

    def __init__(self, ttl_seconds: float, max_bytes: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._ttl_seconds = ttl_seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.bytes = 0

    async def get(self, key: str) -> bytes | None:
        held = self._answers.get(key)
        if held is None:
            return None
        until, answer = held
        if until <= self._clock():
            self._forget(key)
            return None
        self._answers.move_to_end(key)
        return answer

    async def put(self, key: str, answer: bytes) -> None:
        self._forget(key)
        if len(answer) + ENTRY_BYTES > self._max_bytes:
            return
        self._answers[key] = (self._clock() + self._ttl_seconds, answer)
        self.bytes += len(answer) + ENTRY_BYTES
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    async def close(self) -> None:
        self._answers.clear()
        self.bytes = 0

    def _forget(self, key: str) -> None:
        held = self._answers.pop(key, None)
        if held is not None:
            self.bytes -= len(held[1]) + ENTRY_BYTES
