"""Places at the replicas of one model, and the wait for one. Knows when calls may begin, not how they end."""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from enum import StrEnum
from random import Random

from gateway.dispatch.line import Line, Waiter
from gateway.dispatch.replicas import Replica, choose
from models.engine import Call, EngineBusy, EngineError, EngineUnavailable

QUEUE_TIMEOUT_SECONDS = 120.0  # few clients wait longer for a first word
RETRY_AFTER_SECONDS = 2.0  # where nothing better is known: about the time of a short answer
WAKE_DELAY_SECONDS = 0.001  # timers may come early by the resolution of the loop's clock, 1 ms in uvloop


class Shed(StrEnum):
    """Why a call was turned away here, without having asked an engine."""

    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DEADLINE = "deadline"
    OPEN = "breaker_open"
    COOLING = "cooldown"
    STOPPED = "stopped"


_MESSAGES = {
    Shed.QUEUE_FULL: "too many requests wait for this model",
    Shed.QUEUE_TIMEOUT: f"no place was free within {QUEUE_TIMEOUT_SECONDS:g} s",
    Shed.DEADLINE: "no place was free before the request's deadline",
    Shed.OPEN: "the engine has failed repeatedly and is left alone for a while",
    Shed.COOLING: "the engine has asked to be left alone for a while",
    Shed.STOPPED: "the engine has been stopped",
}


class Places:
    """At most `parallel` calls at each replica, and at most *queue* that wait for one of these places.

    While anyone waits, no admitted replica has a free place: each place that comes free is handed on at once. Where no
    replica admits calls, nobody waits: another model can answer now.
    """

    def __init__(self, replicas: Sequence[Replica], *, queue: int, chance: Random) -> None:
        self.replicas = tuple(replicas)
        self.shed: Counter[Shed] = Counter()
        self._queue = queue
        self._chance = chance
        self._line = Line()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def waiting(self) -> int:
        return len(self._line)

    def take(self, call: Call, now: float, avoid: Collection[Replica] = ()) -> Replica | None:
        """A replica that now holds a place for *call*, to be given back by `release`; None when there is none free."""
        return None if self._line else self._occupy(call, now, avoid)

    def have_room(self, now: float, avoid: Collection[Replica] = ()) -> bool:
        """Whether `take` would find a place."""
        return not self._line and bool(self._free(now, avoid))

    def have_spare(self, now: float) -> bool:
        """Whether `take` would find a place and leave another, or all replicas are at rest."""
        free = [replica for replica in self._free(now) if replica.says_ready()]
        if self._line or not free:
            return False
        places = sum(replica.parallel - replica.in_flight for replica in free)
        return places > 1 or not any(replica.in_flight for replica in self.replicas)

    async def wait(self, call: Call, arrival: int) -> Replica:
        """Like `take`, but when it is the turn of *call*. Raises EngineBusy, or EngineUnavailable if none is usable."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._admit_to_line(now)
        waiter = Waiter(call.priority, arrival, call, loop.create_future())
        until, reason = now + QUEUE_TIMEOUT_SECONDS, Shed.QUEUE_TIMEOUT
        if call.deadline is not None and call.deadline < until:
            until, reason = call.deadline, Shed.DEADLINE
        timer = loop.call_at(until, self._give_up, waiter, reason)
        self._line.join(waiter)
        try:
            return await waiter.place
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        finally:
            timer.cancel()

    def release(self, replica: Replica) -> None:
        replica.in_flight -= 1
        if self._line:
            self.hand_on()

    def abandon(self, replica: Replica) -> None:
        """Like `release`, of a place whose call says nothing about the replica."""
        replica.breaker.abandoned(asyncio.get_running_loop().time())
        self.release(replica)

    def hand_on(self) -> None:
        """Give the places that are free to those who wait; turn all away when no replica admits calls any more."""
        now = asyncio.get_running_loop().time()
        if self._line and not any(replica.admits(now) for replica in self.replicas):
            self._dismiss(self._out(now))
        while self._line and self._free(now):
            waiter = self._line.next()
            if waiter.place.done():  # cancelled, and about to leave
                continue
            replica = self._occupy(waiter.call, now)
            assert replica is not None
            waiter.place.set_result(replica)

    def gone_out(self, replica: Replica) -> None:
        """*replica* admits no calls any more: tell those who wait for nothing else, and the others when it is back."""
        if replica.name in self._timers:
            self._timers[replica.name].cancel()
        loop = asyncio.get_running_loop()
        self._timers[replica.name] = loop.call_at(replica.back_at() + WAKE_DELAY_SECONDS, self.hand_on)
        self.hand_on()

    def close(self) -> None:
        """Turn away everyone who waits."""
        for timer in self._timers.values():
            timer.cancel()
        self._dismiss(Shed.STOPPED)

    def refusal(self, reason: Shed) -> EngineError:
        """The error of a call that is turned away for *reason*, which is counted."""
        self.shed[reason] += 1
        if reason is Shed.STOPPED:
            return EngineUnavailable(_MESSAGES[reason])
        if reason not in (Shed.OPEN, Shed.COOLING):
            return EngineBusy(_MESSAGES[reason], retry_after_seconds=RETRY_AFTER_SECONDS)
        now = asyncio.get_running_loop().time()
        back_in_seconds = max(0.0, min(replica.back_at() for replica in self.replicas) - now)
        kind = EngineUnavailable if reason is Shed.OPEN else EngineBusy
        return kind(_MESSAGES[reason], retry_after_seconds=back_in_seconds)

    def _free(self, now: float, avoid: Collection[Replica] = ()) -> list[Replica]:
        return [r for r in self.replicas if r.in_flight < r.parallel and r.admits(now) and r not in avoid]

    def _occupy(self, call: Call, now: float, avoid: Collection[Replica] = ()) -> Replica | None:
        free = self._free(now, avoid)
        if not free:
            return None
        replica = choose(free, call.affinity, self._chance)
        replica.enter(now)
        return replica

    def _admit_to_line(self, now: float) -> None:
        if not any(replica.admits(now) for replica in self.replicas):
            raise self.refusal(self._out(now))
        if len(self._line) >= self._queue:
            raise self.refusal(Shed.QUEUE_FULL)

    def _out(self, now: float) -> Shed:
        """Why no replica admits calls. One that cools is alive."""
        return Shed.COOLING if any(now < replica.cooling_until for replica in self.replicas) else Shed.OPEN

    def _give_up(self, waiter: Waiter, reason: Shed) -> None:
        self._line.leave(waiter)
        if not waiter.place.done():
            waiter.place.set_exception(self.refusal(reason))

    def _withdraw(self, waiter: Waiter) -> None:
        """The call of *waiter* was cancelled, perhaps just as it was given its place or turned away."""
        self._line.leave(waiter)
        place = waiter.place
        if not place.cancelled() and place.exception() is None:
            self.abandon(place.result())

    def _dismiss(self, reason: Shed) -> None:
        for waiter in self._line:
            self._line.leave(waiter)
            if not waiter.place.done():
                waiter.place.set_exception(self.refusal(reason))
