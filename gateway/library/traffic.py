"""What the ledger has of a prompt: calls a day and their tokens, by model. And what an edit of its text costs there."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine, func, select

from gateway.ledger.tables import charges
from models.catalog import Model
from models.engine import Usage

WINDOW_DAYS = 28  # whole weeks: a Sunday is not like a Monday
SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one model. `cached_share`: of the prompt tokens, what its cache had; None where no engine said."""

    model: str
    calls: int
    calls_per_day: float
    cached_share: float | None


def traffic_of(database: Engine, keys: Iterable[str], now: datetime | None = None) -> list[Traffic]:
    """Calls of the templates *keys* in the last weeks, the busiest model first. Days count from the first call."""
    end = now or datetime.now(UTC)
    c = charges.c
    wanted = (
        select(
            c.model,
            func.count().label("calls"),
            func.sum(c.prompt_tokens).label("prompt"),
            func.sum(c.cached_tokens).label("cached"),
        )
        .where(c.template.in_(list(keys)), c.at >= end - timedelta(days=WINDOW_DAYS), c.model.is_not(None))
        .where(c.prompt_tokens.is_not(None))
        .group_by(c.model)
    )
    first = select(func.min(c.at)).where(c.template.in_(list(keys)), c.at >= end - timedelta(days=WINDOW_DAYS))
    with database.connect() as connection:
        rows = connection.execute(wanted).all()
        began = connection.execute(first).scalar_one_or_none()
    if not rows or began is None:
        return []
    began = began if began.tzinfo else began.replace(tzinfo=UTC)
    days = max(1.0, (end - began).total_seconds() / SECONDS_PER_DAY)
    made = [
        Traffic(row.model, row.calls, row.calls / days, row.cached / row.prompt if row.cached and row.prompt else None)
        for row in rows
    ]
    return sorted(made, key=lambda one: (-one.calls, one.model))


@dataclass(frozen=True, slots=True)
class DayCost:
    """What another length of the prompt costs a day on one model; None where the model has no price or no speed."""

    traffic: Traffic
    tokens: int
    usd: Decimal | None


def day_cost(traffic: Traffic, row: Model | None, tokens: int) -> DayCost:
    """calls x (uncached tokens x price + cached tokens x cached price): the edit is cached as the rest of it is."""
    if row is None:
        return DayCost(traffic, tokens, None)
    size = abs(tokens)
    usage = Usage(size, 0, round(size * (traffic.cached_share or 0.0)))
    each = row.expected_cost_usd(usage, warm=True)
    usd = None if each is None else each * Decimal(repr(traffic.calls_per_day)) * (1 if tokens >= 0 else -1)
    return DayCost(traffic, tokens, usd)


def day_costs(
    traffic: Iterable[Traffic], rows: Mapping[str, Model], tokens_on: Callable[[str], int | None]
) -> list[DayCost]:
    """*tokens_on*: how many more the new text has for the model of that name; None where that is not known."""
    return [day_cost(one, rows.get(one.model), delta) for one in traffic if (delta := tokens_on(one.model)) is not None]
