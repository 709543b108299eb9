"""Settlements that a store did not take wait here and are tried again: what was spent may not be forgotten."""

from collections import deque
from collections.abc import Awaitable, Callable

from gateway.limits.claim import NEVER_BEGUN, Actual, Reservation, Unreachable

UNSETTLED_LIMIT = 100_000  # some 50 MB; beyond it the oldest goes, and its hold expires as if the process had crashed


class Unsettled:
    """Around a step that settles or raises Unreachable, and that does nothing a second time."""

    def __init__(self, settle: Callable[[Reservation, Actual], Awaitable[None]]) -> None:
        self._settle = settle
        self._waiting: deque[tuple[Reservation, Actual]] = deque(maxlen=UNSETTLED_LIMIT)

    def __len__(self) -> int:
        return len(self._waiting)

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        """Now, or when the store answers again."""
        try:
            await self._settle(reservation, actual)
        except Unreachable:
            self._waiting.append((reservation, actual))

    def doubt(self, reservation: Reservation) -> None:
        """It may have been taken although the store did not say so: to be given back."""
        self._waiting.append((reservation, NEVER_BEGUN))

    async def again(self) -> None:
        """Try each that waits once; what fails waits on."""
        for _ in range(len(self._waiting)):
            await self.settle(*self._waiting.popleft())
