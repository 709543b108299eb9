"""What a request claims of a limit, and what a store of limits promises. Types and their arithmetic; no I/O.

Every limit is one counter of what is used: a claim fits when `used + units <= capacity`. What settles gives back the
difference between the claim and what it came to. Only a bucket's counter drains by itself, its cap a minute.

NotReserved
 +- Refused      the claim does not fit; nothing was taken of any limit
 +- Unreachable  the store does not answer, and a budget of money must not be guessed
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

HOLD_SECONDS = 7200  # no request outlives an hour, and a clock may jump by another without freeing a live one
WINDOW_KEPT_SECONDS = 172_800  # after its end: a clock that is set back finds yesterday's count where it was
SEEDED_KEPT_SECONDS = 33 * 86_400  # of a window that was seeded: a month, and a clock that is set back
DRAIN_UNITS = (
    60_000  # a minute in milliseconds: a bucket counts in 1/60,000, so that it drains whole units a millisecond
)
SOON_SECONDS = 1.0  # when somebody else's answer may be over: nobody knows


class Kind(StrEnum):
    """How a limit's counter gets free again."""

    WINDOW = "window"  # never: the next day or month has a counter of its own
    BUCKET = "bucket"  # drains, its cap a minute; a burst may take it whole
    CONCURRENCY = "concurrency"  # when the answer is over


class Unit(StrEnum):
    """What is counted."""

    NANO_USD = "nano_usd"
    REQUESTS = "requests"
    TOKENS = "tokens"
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True)
class Claim:
    """*amount* of one limit, of which there is *cap*, in whole *unit*s. `whose` and `period` are for people.

    `resets_seconds`: how long a window lasts from now; None for the kinds that have no end.
    """

    key: str
    kind: Kind
    unit: Unit
    amount: int
    cap: int
    whose: str = ""
    period: str = ""
    resets_seconds: float | None = None

    @property
    def scale(self) -> int:
        """Units of the counter for one of the amount."""
        return DRAIN_UNITS if self.kind is Kind.BUCKET else 1

    @property
    def drain(self) -> int:
        """Units that the counter loses a millisecond."""
        return self.cap if self.kind is Kind.BUCKET else 0

    def left(self, used: int) -> int:
        """What may still be claimed, in whole *unit*s, of a counter at *used*; not under 0."""
        return max(0, (self.cap * self.scale - used) // self.scale)

    def retry_after_seconds(self, used: int) -> float | None:
        """When the claim may fit a counter at *used*; None when it never does."""
        if self.amount > self.cap:
            return None
        if self.kind is Kind.WINDOW:
            return self.resets_seconds
        if self.kind is Kind.CONCURRENCY:
            return SOON_SECONDS
        return max(0, used + (self.amount - self.cap) * self.scale) / max(1, self.drain) / 1000


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was taken, and what each claim's limit has left after it. `degraded`: only this process knows of it."""

    id: str
    claims: tuple[Claim, ...]
    left: tuple[int, ...]
    degraded: bool = False


class NotReserved(Exception):
    """Nothing was taken of any limit; the request may not go on."""


class Refused(NotReserved):
    """*claim* does not fit into the *remaining* of its limit. `retry_after_seconds` is None when it never will."""

    def __init__(self, claim: Claim, remaining: int, retry_after_seconds: float | None) -> None:
        super().__init__(f"{claim.key}: {claim.amount} claimed, {remaining} of {claim.cap} left")
        self.claim = claim
        self.remaining = remaining
        self.retry_after_seconds = retry_after_seconds


class Unreachable(NotReserved):
    """The store of the limits does not answer."""


Actual = Mapping[Unit, int | None]  # a unit that is missing or None is not known: the worst case counts

NOTHING_USED: Actual = {Unit.NANO_USD: 0, Unit.TOKENS: 0}  # nobody was called; the request itself counts
NEVER_BEGUN: Actual = {**NOTHING_USED, Unit.REQUESTS: 0}  # cancelled before it knew that it may go on


def came_to(claim: Claim, actual: Actual) -> int:
    """What *claim* came to. An answer that is over takes no place; a request was made, whatever it took."""
    if claim.unit is Unit.ANSWERS:
        return 0
    known = actual.get(claim.unit)
    return claim.amount if known is None else known


class LimitStore(Protocol):
    """Keeps the counters. `degraded` is True while limits are kept by this process alone."""

    @property
    def degraded(self) -> bool: ...

    async def reserve(self, claims: Sequence[Claim]) -> Reservation:
        """Take every claim or none, at once. Raises NotReserved.

        What is never settled is given back after HOLD_SECONDS.
        """

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        """Count what was used and give back the rest. A second time does nothing; late is better than never."""

    async def seed(self, spent: Mapping[str, int]) -> None:
        """Windows count at least *spent*, by their keys: what the ledger knows."""

    async def close(self) -> None: ...


def needs_certainty(claims: Sequence[Claim]) -> bool:
    """Whether one of them is money, which is refused rather than guessed."""
    return any(claim.unit is Unit.NANO_USD for claim in claims)
