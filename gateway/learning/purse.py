"""The money of a day for exploring: what a shadow may cost is reserved before it, and settled after it, in the store
that keeps everybody's budgets. So it holds over all processes, and begins anew each day (UTC).

The ledger knows what was spent by the caller of the charges, EXPLORER, as it does for any other budget.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from gateway.keys import Caller
from gateway.ledger.charge import NANO
from gateway.limits.budgets import Scope
from gateway.limits.claim import Actual, Claim, Kind, LimitStore, Refused, Reservation, Unit
from gateway.limits.policy import worst_case
from gateway.limits.window import DAY
from gateway.settings import Settings
from models.catalog import SECONDS_PER_HOUR, Model
from models.engines import LOCAL_ENGINES

EXPLORER = Caller("explorer", "the gateway itself, for its shadows")  # no key has such an id; see gateway.keys
SECONDS_LIMIT = 120.0  # of a shadow's call; one that takes longer counts as different, and is stopped
STOP_SECONDS = 2.0  # that stopping may take, see models.engine.Reply.close


@dataclass(frozen=True, slots=True)
class Allowance:
    """`nano_usd` a day. `everywhere`: also for models that somebody else sends a bill for."""

    nano_usd: int
    everywhere: bool

    @classmethod
    def of(cls, settings: Settings) -> "Allowance":
        usd = settings.learning.explore_usd_per_day
        if usd is None:
            return cls(int(settings.machine_hour_usd * NANO), everywhere=False)
        return cls(int(usd * NANO), everywhere=True)

    def covers(self, model: Model) -> bool:
        """Whether *model* may be explored: there is money, and it is known what it costs."""
        if model.price is None or not (self.everywhere or model.engine in LOCAL_ENGINES):
            return False
        return self.nano_usd > 0 or (not self.everywhere and model.price.hour_usd == 0)


NOTHING = Allowance(0, everywhere=False)


class Spent(Exception):
    """The day's money does not suffice. `never`: nor would it on any other day."""

    def __init__(self, *, never: bool) -> None:
        super().__init__("the money of the day for exploring does not suffice")
        self.never = never


class Purse:
    """Once something did not fit, nothing more is taken that day: else what is small would go on, and templates would
    be known by their short requests.
    """

    def __init__(self, limits: LimitStore, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._limits = limits
        self._clock = clock
        self._closed = ("", 0)  # the window that is over, and the money that it had

    async def take(self, worst_nano_usd: int, allowance: Allowance) -> Reservation:
        """Raises Spent; NotReserved when the store does not answer."""
        now = self._clock()
        key = DAY.key(Scope.CALLER, EXPLORER.id, now)
        if self._closed == (key, allowance.nano_usd):
            raise Spent(never=False)
        claim = Claim(
            key,
            Kind.WINDOW,
            Unit.NANO_USD,
            worst_nano_usd,
            allowance.nano_usd,
            EXPLORER.name,
            DAY.name,
            DAY.seconds_left(now),
        )
        try:
            return await self._limits.reserve([claim])
        except Refused as refused:
            never = worst_nano_usd > allowance.nano_usd
            if not never:
                self._closed = (key, allowance.nano_usd)
            raise Spent(never=never) from refused

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        await self._limits.settle(reservation, actual)


def worst_nano_usd(body: Mapping[str, Any], body_bytes: int, model: Model) -> int:
    """What asking *model*, which has a price, may cost at most, rounded up: its time until it is stopped, or tokens."""
    assert model.price is not None
    if model.price.hour_usd is None:
        return worst_case(body, body_bytes, [model]).nano_usd()
    hours = Decimal(SECONDS_LIMIT + STOP_SECONDS) / SECONDS_PER_HOUR
    return int((model.price.hour_usd * hours * NANO).to_integral_value(ROUND_CEILING))
