"""An engine that answers when it is told to, and counts what it is asked and what it is left with."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from models.engine import Call, EngineCut, EngineError, EngineState, Health, Reply, Usage

Play = Callable[[Call], Awaitable[None]]


async def at_once(call: Call) -> None:
    """Answers."""


async def silent(call: Call) -> None:
    """Never answers."""
    await asyncio.get_running_loop().create_future()


def after(seconds: float) -> Play:
    async def play(call: Call) -> None:
        await asyncio.sleep(seconds)

    return play


def failing(make: Callable[[], Exception]) -> Play:
    async def play(call: Call) -> None:
        raise make()

    return play


def in_turn(*plays: Play) -> Play:
    """Each for one call, the last for all further ones."""
    rest = list(plays)
    return lambda call: (rest.pop(0) if len(rest) > 1 else rest[0])(call)


@dataclass(eq=False)
class FakeEngine:
    """Answers a call once `play(call)` returns. `running` are the calls under way and the replies not yet closed."""

    play: Play = at_once
    state: EngineState = EngineState.READY
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    most: int = 0
    cancelled: int = 0
    closed: int = 0
    starts: int = 0
    stops: int = 0

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None:
        self.stops += 1

    def health(self) -> Health:
        return Health(self.state, restarts=1)

    async def begin(self, call: Call) -> Reply:
        self.calls.append(call)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.play(call)
        except BaseException as reason:
            self.running -= 1
            self.cancelled += isinstance(reason, asyncio.CancelledError)
            raise
        return FakeReply(self)


class FakeReply(Reply):
    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(b"first")
        self.engine = engine
        self.cut: EngineError | None = None

    @property
    def usage(self) -> Usage:
        return Usage(3, 1)

    @property
    def engine_seconds(self) -> float:
        return 0.5

    async def more(self) -> bytes:
        if self.cut is not None:
            raise self.cut
        return b""

    async def _stop(self) -> None:
        self.engine.running -= 1
        self.engine.closed += 1


def cut(reply: Reply) -> None:
    """From now on *reply* is broken off."""
    assert isinstance(reply, FakeReply)
    reply.cut = EngineCut("the engine broke off")


def engine_of(reply: Reply) -> FakeEngine:
    assert isinstance(reply, FakeReply)
    return reply.engine
