"""Answering one call with the replicas of one model. Knows replicas by their promises, and no other model."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Self

from gateway.dispatch.breaker import BreakerState
from gateway.dispatch.budget import Budget
from gateway.dispatch.places import Places, Shed
from gateway.dispatch.replicas import Replica, replicas_of
from gateway.mean import Mean
from models.catalog import Model
from models.engine import (
    Call,
    Engine,
    EngineBusy,
    EngineRefused,
    EngineState,
    EngineUnavailable,
    Health,
    Reply,
    Usage,
)

FIRST_BACKOFF_SECONDS = 0.2  # before the first repetition at the same replica, doubled for each further one
LONGEST_BACKOFF_SECONDS = 2.0  # a client waits meanwhile
BEST_STATE_FIRST = (
    EngineState.READY,
    EngineState.STARTING,
    EngineState.RESTARTING,
    EngineState.FAILED,
    EngineState.STOPPED,
)


@dataclass(frozen=True, slots=True)
class Discarded:
    """Work on *call* that *replica* did in vain, because another was first. What it does not say is None."""

    call: Call
    replica: str
    usage: Usage | None
    engine_seconds: float | None


def _ignore(discarded: Discarded) -> None:
    """For callers who do not count discarded work."""


class Dispatcher:
    """An Engine made of one or more engines that serve the same build.

    Nothing is repeated after the first block of an answer. `retries_total` and `hedges_total` count the extra calls.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        *,
        parallel: int,
        queue: int,
        retries: int = 1,
        hedge_after_seconds: float | None = None,
        chance: Random | None = None,
        on_discarded: Callable[[Discarded], None] = _ignore,
    ) -> None:
        self.replicas = tuple(Replica(name, engine, parallel) for name, engine in engines.items())
        self.retries_total = 0
        self.hedges_total = 0
        self._retries = retries
        self._hedge_after_seconds = hedge_after_seconds
        self._chance = chance or Random()  # noqa: S311  # spreads load, keeps no secret
        self._on_discarded = on_discarded
        self._budget = Budget()
        self._places = Places(self.replicas, queue=queue, chance=self._chance)
        self._arrivals = 0
        self._call_seconds = Mean()  # that a call keeps its place
        self._discarding: set[asyncio.Task[None]] = set()

    @classmethod
    def of(
        cls,
        model: Model,
        engines: Sequence[Engine],
        *,
        chance: Random | None = None,
        on_discarded: Callable[[Discarded], None] = _ignore,
    ) -> Self:
        """The dispatcher of a row; *engines* are those of `replicas_of(model)`, in that order."""
        names = [replica.address for replica in replicas_of(model)]
        return cls(
            dict(zip(names, engines, strict=True)),
            parallel=model.parallel,
            queue=model.queue,
            retries=model.retries,
            hedge_after_seconds=model.hedge_after_seconds,
            chance=chance,
            on_discarded=on_discarded,
        )

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._places.waiting

    @property
    def in_flight(self) -> int:
        """Calls being answered, by all replicas together, until their replies are closed."""
        return sum(replica.in_flight for replica in self.replicas)

    @property
    def call_seconds(self) -> float | None:
        """How long a call keeps its place, as of late; None where none has ended yet."""
        return self._call_seconds.value if self._call_seconds.count else None

    @property
    def turns_before(self) -> float:
        """How often all places must come free before a call that came now would have one."""
        places = taken = 0
        for replica in self.replicas:
            places += replica.parallel
            taken += replica.in_flight
        if taken < places and not self.waiting:
            return 0.0
        return max(0, taken + self.waiting + 1 - places) / places

    @property
    def shed(self) -> Mapping[Shed, int]:
        """Calls turned away without asking an engine, by reason."""
        return self._places.shed

    async def start(self) -> None:
        await asyncio.gather(*(replica.engine.start() for replica in self.replicas))

    async def stop(self) -> None:
        self._places.close()
        if self._discarding:
            await asyncio.wait(self._discarding)
        await asyncio.gather(*(replica.engine.stop() for replica in self.replicas))

    def health(self) -> Health:
        """That of the best replica, with the restarts of all. Breakers are no part of it: they judge by the minute."""
        all_of_them = [replica.engine.health() for replica in self.replicas]
        best = min(all_of_them, key=lambda health: BEST_STATE_FIRST.index(health.state))
        return replace(best, restarts=sum(health.restarts for health in all_of_them))

    async def begin(self, call: Call) -> Reply:
        """The reply of the first replica that gives one. Raises EngineError."""
        self._budget.earn()
        self._arrivals += 1
        arrival = self._arrivals
        replica = await self._place(call, arrival)
        failed: tuple[Replica, ...] = ()
        while True:
            try:
                if self._hedge_after_seconds is None:
                    return await self._ask(replica, call)
                return await self._ask_hedged(replica, call, self._hedge_after_seconds)
            except (EngineUnavailable, EngineBusy) as problem:
                failed = (*failed, replica)
                await self._allow_retry(call, failed, problem)
            replica = await self._place(call, arrival, failed)

    def has_spare(self) -> bool:
        """Whether a call that may as well be left undone would be in nobody's way now: nobody waits, and one more place
        stays free, or nothing at all is being answered.
        """
        return self._places.have_spare(asyncio.get_running_loop().time())

    async def begin_aside(self, call: Call) -> Reply:
        """Like `begin`, at once where it `has_spare`, else EngineBusy; nothing is repeated or hedged."""
        now = asyncio.get_running_loop().time()
        replica = self._places.take(call, now) if self._places.have_spare(now) else None
        if replica is None:
            raise EngineBusy("there is no place to spare")
        return await self._ask(replica, call)

    async def _place(self, call: Call, arrival: int, avoid: Sequence[Replica] = ()) -> Replica:
        """A replica with a place for *call*, rather not one of *avoid*."""
        now = asyncio.get_running_loop().time()
        if call.deadline is not None and now >= call.deadline:
            raise self._places.refusal(Shed.DEADLINE)
        replica = self._places.take(call, now, avoid)
        if replica is None and avoid:
            replica = self._places.take(call, now)
        return replica or await self._places.wait(call, arrival)

    async def _allow_retry(
        self, call: Call, failed: Sequence[Replica], problem: EngineUnavailable | EngineBusy
    ) -> None:
        """Return when *call* may be tried once more: at once elsewhere, else after a while. Else raise *problem*."""
        now = asyncio.get_running_loop().time()
        elsewhere = self._places.have_room(now, failed)
        pause_seconds = 0.0 if elsewhere else self._backoff_seconds(len(failed))
        in_time = call.deadline is None or now + pause_seconds < call.deadline
        useful = elsewhere or any(r.admits(now) and r.says_ready() for r in self.replicas)
        if len(failed) > self._retries or not in_time or not useful or not self._budget.spend(self._active()):
            raise problem
        self.retries_total += 1
        if not elsewhere:
            await asyncio.sleep(pause_seconds)

    def _backoff_seconds(self, failures: int) -> float:
        """Full jitter: calls that failed together do not come back together."""
        return self._chance.uniform(0.0, min(FIRST_BACKOFF_SECONDS * 2 ** (failures - 1), LONGEST_BACKOFF_SECONDS))

    def _active(self) -> int:
        return self.in_flight + self.waiting

    async def _ask(self, replica: Replica, call: Call) -> Reply:
        """Call *replica*, where a place has been taken, and learn from how it goes."""
        answered = False
        began = asyncio.get_running_loop().time()
        try:
            reply = await replica.engine.begin(call)
            answered = True
        except EngineRefused:  # it is alive
            self._succeeded(replica)
            raise
        except (EngineUnavailable, EngineBusy) as problem:
            self._failed(replica, problem)
            raise
        finally:
            if not answered:
                self._places.abandon(replica)
        self._succeeded(replica)
        reply.when_closed(partial(self._closed, replica, began))
        return reply

    def _closed(self, replica: Replica, began: float) -> None:
        self._call_seconds.take(asyncio.get_running_loop().time() - began)
        self._places.release(replica)

    def _succeeded(self, replica: Replica) -> None:
        was_closed = replica.breaker.state is BreakerState.CLOSED
        replica.breaker.success()
        if not was_closed:
            self._places.hand_on()

    def _failed(self, replica: Replica, problem: EngineUnavailable | EngineBusy) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(problem, EngineBusy) and problem.retry_after_seconds:
            replica.cool(problem.retry_after_seconds, now)
        elif replica.says_ready():  # an engine that knows that it is not tells when it is
            replica.breaker.failure(now)
        if not replica.admits(now):
            self._places.gone_out(replica)

    async def _ask_hedged(self, replica: Replica, call: Call, after_seconds: float) -> Reply:
        """Like `_ask`, but a replica that is silent for *after_seconds* gets a competitor."""
        first = asyncio.create_task(self._ask(replica, call))
        asked = {first: replica}
        winner = None
        try:
            await asyncio.wait(asked, timeout=after_seconds)
            if not first.done() and (other := self._competitor(replica, call)) is not None:
                asked[asyncio.create_task(self._ask(other, call))] = other
            winner = await _first_to_answer(asked)
            return winner.result()
        finally:
            for task, loser in asked.items():
                if task is not winner:
                    self._discard(task, call, loser, beaten=winner is not None, head_start=task is first)

    def _competitor(self, silent: Replica, call: Call) -> Replica | None:
        """A place for a second attempt at *call*, at another replica where there are others."""
        now = asyncio.get_running_loop().time()
        avoid = (silent,) if len(self.replicas) > 1 else ()
        in_time = call.deadline is None or now < call.deadline
        if not in_time or not self._places.have_room(now, avoid) or not self._budget.spend(self._active()):
            return None
        self.hedges_total += 1
        return self._places.take(call, now, avoid)

    def _discard(
        self, task: asyncio.Task[Reply], call: Call, replica: Replica, *, beaten: bool, head_start: bool
    ) -> None:
        discarding = asyncio.create_task(self._end(task, call, replica, beaten=beaten, head_start=head_start))
        self._discarding.add(discarding)
        discarding.add_done_callback(self._discarding.discard)

    async def _end(
        self, task: asyncio.Task[Reply], call: Call, replica: Replica, *, beaten: bool, head_start: bool
    ) -> None:
        """End what *replica* does for *call*, and report it if another has *beaten* it.

        Being overtaken in spite of a *head_start* counts as a failure: hedging would hide a silent replica for ever.
        """
        task.cancel()  # from here, where it has begun: cancelled before that, it would never give back its place
        await asyncio.wait({task})
        usage = engine_seconds = None
        if task.cancelled():
            if beaten and head_start:
                self._failed(replica, EngineUnavailable("another replica was faster"))
        elif task.exception() is not None:
            return
        else:
            reply = task.result()
            await reply.close()
            usage, engine_seconds = reply.usage, reply.engine_seconds
        if beaten:
            self._on_discarded(Discarded(call, replica.name, usage, engine_seconds))


async def _first_to_answer(asked: Collection[asyncio.Task[Reply]]) -> asyncio.Task[Reply]:
    """The first that answers or is refused; if all fail, the last that did."""
    running = set(asked)
    while True:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        final = min(done, key=_may_be_waited_over)
        if not running or not _may_be_waited_over(final):
            return final


def _may_be_waited_over(task: asyncio.Task[Reply]) -> bool:
    """Whether *task*, which is done, failed in a way that another replica need not."""
    return not task.cancelled() and isinstance(task.exception(), EngineUnavailable | EngineBusy)
