"""Who waits for a place, and whose turn it is. Knows no clock and no engine."""

from asyncio import Future
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

from gateway.dispatch.replicas import Replica
from models.engine import Call

EVERY_NTH_TURN = 8  # goes to who has waited longest: an eighth of the places is little for the others, and enough


class Waiter(NamedTuple):
    """`arrival` is a number that no two waiters share, so that comparing two never looks further."""

    priority: int
    arrival: int
    call: Call
    place: Future[Replica]


class Line:
    """Waiters by priority, then arrival; but every eighth turn goes to the earliest arrival, whatever its priority.

    So nobody starves: who has k earlier arrivals before it has its turn after at most 8 * (k + 1) turns.
    """

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []  # sorted, and short: the row's `queue` bounds it
        self._turns = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._waiters))

    def join(self, waiter: Waiter) -> None:
        insort(self._waiters, waiter)

    def leave(self, waiter: Waiter) -> None:
        """Does nothing when *waiter* has left already."""
        index = bisect_left(self._waiters, waiter[:2])
        if index < len(self._waiters) and self._waiters[index] is waiter:
            del self._waiters[index]

    def next(self) -> Waiter:
        """Takes whose turn it is out of the line, which is not empty."""
        self._turns += 1
        if self._turns % EVERY_NTH_TURN:
            return self._waiters.pop(0)
        eldest = min(range(len(self._waiters)), key=lambda index: self._waiters[index].arrival)
        return self._waiters.pop(eldest)
