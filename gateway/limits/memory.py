"""Limits of one process: a dictionary. Knows the monotonic clock only, so a clock that is set changes nothing here."""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import monotonic_ns

from gateway.limits.claim import (
    HOLD_SECONDS,
    SEEDED_KEPT_SECONDS,
    WINDOW_KEPT_SECONDS,
    Actual,
    Claim,
    Kind,
    Refused,
    Reservation,
    came_to,
)

HOLD_MS = HOLD_SECONDS * 1000
PURGE_FLOOR = 1000  # counters; below it none is looked for that could be forgotten


class _Counter:
    """What is used of one limit, as of *at_ms*; *keep_ms* later nobody needs to know."""

    __slots__ = ("at_ms", "keep_ms", "used")

    def __init__(self, used: int, at_ms: int, keep_ms: int) -> None:
        self.used = used
        self.at_ms = at_ms
        self.keep_ms = keep_ms


# A reservation's claims, the units taken for each (none once they were given back by themselves), and until when.
_Hold = tuple[tuple[Claim, ...], list[int], int]


def monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000


class MemoryStore:
    """A LimitStore for one event loop: nothing in it waits, so nothing comes between."""

    degraded = False

    def __init__(self, clock_ms: Callable[[], int] = monotonic_ms) -> None:
        self._clock_ms = clock_ms
        self._counters: dict[str, _Counter] = {}
        self._holds: dict[str, _Hold] = {}  # in the order in which they expire
        self._ids = count(1)
        self._purge_above = PURGE_FLOOR

    async def reserve(self, claims: Sequence[Claim]) -> Reservation:
        now_ms = self._clock_ms()
        self._free_expired(now_ms)
        if len(self._counters) > self._purge_above:
            self._purge(now_ms)
        counters, units, left = [], [], []
        for claim in claims:
            counter = self._drained(claim, now_ms)
            scale = claim.scale
            taken = claim.amount * scale
            room = claim.cap * scale - counter.used - taken
            if room < 0:
                raise Refused(claim, claim.left(counter.used), claim.retry_after_seconds(counter.used))
            counters.append(counter)
            units.append(taken)
            left.append(room // scale)
        for counter, taken in zip(counters, units, strict=True):
            counter.used += taken
        made = Reservation(str(next(self._ids)), tuple(claims), tuple(left))
        self._holds[made.id] = made.claims, units, now_ms + HOLD_MS
        return made

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        held = self._holds.pop(reservation.id, None)
        if held is None:
            return
        now_ms = self._clock_ms()
        for claim, units in zip(held[0], held[1], strict=True):
            counter = self._drained(claim, now_ms)
            counter.used = max(0, counter.used + came_to(claim, actual) * claim.scale - units)

    async def seed(self, spent: Mapping[str, int]) -> None:
        now_ms = self._clock_ms()
        for key, amount in spent.items():
            counter = self._counters.setdefault(key, _Counter(0, now_ms, SEEDED_KEPT_SECONDS * 1000))
            counter.used = max(counter.used, amount)

    async def close(self) -> None: ...

    def _drained(self, claim: Claim, now_ms: int) -> _Counter:
        """The claim's counter as it is now."""
        counter = self._counters.get(claim.key)
        if counter is None:
            keep_ms = int(1000 * ((claim.resets_seconds or 0) + WINDOW_KEPT_SECONDS))
            counter = self._counters[claim.key] = _Counter(0, now_ms, keep_ms)
        elif claim.kind is Kind.BUCKET:
            counter.used = max(0, counter.used - claim.cap * (now_ms - counter.at_ms))
        counter.at_ms = now_ms
        return counter

    def _free_expired(self, now_ms: int) -> None:
        """Give back what was held too long; the hold itself stays as long again, for a settlement that comes late."""
        while self._holds:
            reservation_id = next(iter(self._holds))
            claims, units, expires_ms = self._holds[reservation_id]
            if expires_ms > now_ms:
                return
            del self._holds[reservation_id]
            if not any(units):
                continue
            for claim, taken in zip(claims, units, strict=True):
                counter = self._drained(claim, now_ms)
                counter.used = max(0, counter.used - taken)
            self._holds[reservation_id] = claims, [0] * len(claims), now_ms + HOLD_MS

    def _purge(self, now_ms: int) -> None:
        """Forget counters at zero and those not needed any more; then not again before as many have been added."""
        self._counters = {
            key: counter
            for key, counter in self._counters.items()
            if counter.used and counter.at_ms + counter.keep_ms > now_ms
        }
        self._purge_above = max(PURGE_FLOOR, 2 * len(self._counters))
