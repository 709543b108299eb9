"""Days and months of money: when they begin, when they end, and what their counters are called. All in UTC."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.limits.budgets import Scope


@dataclass(frozen=True, slots=True)
class Period:
    """*format* names a window by its date; *monthly* or daily."""

    name: str
    format: str
    monthly: bool

    def start(self, now: datetime) -> datetime:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight.replace(day=1) if self.monthly else midnight

    def seconds_left(self, now: datetime) -> float:
        """Until the next window begins; more than 0."""
        start = self.start(now)
        if not self.monthly:
            return (start + timedelta(days=1) - now).total_seconds()
        return ((start + timedelta(days=32)).replace(day=1) - now).total_seconds()

    def key(self, scope: Scope, name: str, now: datetime) -> str:
        return f"usd:{scope.value}:{name}:{now.strftime(self.format)}"


DAY = Period("day", "%Y-%m-%d", monthly=False)
MONTH = Period("month", "%Y-%m", monthly=True)
