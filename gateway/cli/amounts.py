"""Money, rates and durations as an operator types them, and as they are shown. Used by keys and budgets."""

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from gateway.ledger.charge import NANO
from gateway.limits.budgets import BudgetError, Limits, limits_of

BudgetDay = Annotated[str | None, typer.Option(help="USD it may spend a day (UTC): 1.50; no limit when left out")]
BudgetMonth = Annotated[str | None, typer.Option(help="USD it may spend a month (UTC)")]
RequestsPerMinute = Annotated[int | None, typer.Option(help="requests it may make a minute")]
TokensPerMinute = Annotated[int | None, typer.Option(help="tokens a minute, of prompts and answers together")]
Concurrency = Annotated[int | None, typer.Option(help="answers it may be given at once")]

LIFETIME_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LIFETIME_LIMIT = timedelta(days=3650)  # ten years; a key for good has no lifetime at all


def usd(text: str | None) -> Decimal | None:
    """Raises BudgetError for what is no number."""
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation as error:
        raise BudgetError(f"{text!r} is no amount of US dollars; write it like 1.50") from error


def limits_told(
    budget_day: str | None,
    budget_month: str | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrency: int | None,
) -> Limits:
    """Raises BudgetError."""
    return limits_of(
        day_usd=usd(budget_day),
        month_usd=usd(budget_month),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrency=concurrency,
    )


def lifetime(text: str) -> timedelta:
    """`90m`, `12h`, `30d`. Raises BudgetError."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([mhd])", text)
    made = timedelta(**{LIFETIME_UNITS[found[2]]: int(found[1])}) if found else None
    if made is None or made > LIFETIME_LIMIT:
        raise BudgetError(f"{text!r} is no lifetime of a key; write it like 90m, 12h or 30d, ten years at most")
    return made


def shown_limits(limits: Limits) -> str:
    """ "1.5 USD/day, 60 requests/min"."""
    parts = (
        (_dollars(limits.day_nano_usd), "USD/day"),
        (_dollars(limits.month_nano_usd), "USD/month"),
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.concurrency, "at once"),
    )
    return ", ".join(f"{amount} {what}" for amount, what in parts if amount is not None)


def _dollars(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else f"{(nano_usd / NANO).normalize():f}"
