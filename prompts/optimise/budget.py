"""How much a search may spend, and what it has spent: calls, money, time. Whichever ends first ends it."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Budget:
    """None is no limit. Money may be passed by what the calls cost that were under way when it ended."""

    calls: int
    usd: Decimal | None = None
    seconds: float | None = None


class Purse:
    """What is left of a *budget*. Answers that were kept from an earlier run cost nothing."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = perf_counter) -> None:
        self.budget = budget
        self.calls = 0
        self.usd = Decimal(0)
        self._clock = clock
        self._began = clock()
        self._unknown = False

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def empty(self, calls: int = 1) -> str | None:
        """Why *calls* more may not be made; None where they may."""
        budget = self.budget
        if self.calls + calls > budget.calls:
            return f"the budget of {budget.calls:,} calls is spent"
        if budget.usd is not None and self._unknown:
            return "a budget in money, and a model without a price: set its price, or give no budget in money"
        if budget.usd is not None and self.usd >= budget.usd:
            return f"the budget of ${budget.usd} is spent"
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return f"the {budget.seconds:g} seconds are over"
        return None

    def reserve(self, calls: int) -> None:
        self.calls += calls

    def refund(self, calls: int) -> None:
        self.calls -= calls

    def pay(self, usd: Decimal | None) -> None:
        """What a call cost, None where nobody knows."""
        if usd is None:
            self._unknown = True
        else:
            self.usd += usd
