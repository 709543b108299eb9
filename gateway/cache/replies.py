"""Replies around a cache: one that says again what was kept, one that takes note of what an engine says."""

from collections.abc import Awaitable, Callable, Sequence

from models.engine import Reply, Usage, Wrapped

KEPT_LIMIT_BYTES = 1024 * 1024  # of one answer, as it comes; a longer one is not kept


class Replayed(Reply):
    """A kept answer. `kind`: exact or semantic. `usage` is what it took when it was made."""

    def __init__(self, blocks: Sequence[bytes], usage: Usage | None, kind: str) -> None:
        super().__init__(blocks[0])
        self.kind = kind
        self._left = list(blocks[:0:-1])
        self._usage = usage

    @property
    def usage(self) -> Usage | None:
        return self._usage

    @property
    def engine_seconds(self) -> float | None:
        return 0.0

    async def more(self) -> bytes:
        return self._left.pop() if self._left else b""

    async def _stop(self) -> None:
        """Nothing is held."""


class Noted(Wrapped):
    """*reply*, unchanged; *keep* gets its blocks when it has come to its end, and only then."""

    def __init__(self, reply: Reply, keep: Callable[[Sequence[bytes], Usage | None], Awaitable[None]]) -> None:
        super().__init__(reply, reply.first)
        self._keep = keep
        self._blocks: list[bytes] | None = [reply.first]
        self._bytes = len(reply.first)

    async def more(self) -> bytes:
        block = await self._reply.more()
        if self._blocks is None:
            return block
        if not block:
            blocks, self._blocks = self._blocks, None
            await self._keep(blocks, self._reply.usage)
            return block
        self._bytes += len(block)
        if self._bytes > KEPT_LIMIT_BYTES:
            self._blocks = None
        else:
            self._blocks.append(block)
        return block
