"""One request's entry in the ledger. A value; no I/O."""

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import NamedTuple

NANO = Decimal(10**9)
SHADOW = "shadow"  # the operation of a call that no client has asked for, see `gateway.learning.shadows`


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    REFUSED = "refused"  # 4xx: the request or its key was wrong
    FAILED = "failed"  # 5xx: nobody could answer
    CUT = "cut"  # the answer had begun and broke off on our side
    GONE = "gone"  # the client left first
    LOST = "lost"  # our process died before the request ended; what it used is unknown


class Charge(NamedTuple):
    """See `gateway.ledger.tables.charges` for each field; None means unknown.

    A tuple: two are made in every request, and a frozen dataclass of as many fields takes three times as long to make.
    """

    id: str
    at: datetime
    outcome: Outcome
    status: int | None
    code: str | None
    streamed: bool
    attempts: int
    total_seconds: float
    caller: str | None = None
    asked: str | None = None
    template: str | None = None
    model: str | None = None
    build: str | None = None
    basis: str | None = None
    reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: Decimal | None = None
    safe_cost_usd: Decimal | None = None
    decide_seconds: float | None = None
    first_chunk_seconds: float | None = None
    engine_seconds: float | None = None
    reasoning_tokens: int | None = None
    discarded_tokens: int | None = None
    cache: str | None = None
    team: str | None = None
    operation: str | None = None
    evidence_group: str | None = None
    decision: str | None = None
    prompt: str | None = None
    prompt_version: int | None = None
    prompt_variant: str | None = None


def nano_usd(amount: Decimal | None) -> int | None:
    """Money as the database keeps it: whole billionths of a dollar, None for unknown."""
    return None if amount is None else int((amount * NANO).to_integral_value(ROUND_HALF_EVEN))


def usd_of(nano: int | None) -> Decimal | None:
    """What `nano_usd` wrote."""
    return None if nano is None else Decimal(nano) / NANO
