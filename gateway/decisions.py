"""Decisions that the ledger has kept, read back. Blocking; knows no router but its forms."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Engine, Row, select

from gateway.ledger.charge import usd_of
from gateway.ledger.tables import charges, feedback
from models.engine import Usage
from router.replay import Served


class NoSuchDecision(LookupError):
    """The ledger has no such request, or not what its decision was made from; the message says which."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A charge as far as its decision goes. `document`: see `router.transcript`."""

    id: str
    at: datetime
    model: str | None
    outcome: str
    seconds: float | None
    document: dict[str, Any]
    prompt: str | None = None  # the version and the text of it that was said, in words


def find_decision(database: Engine, request_id: str) -> Kept:
    """Raises NoSuchDecision."""
    names = ("at", "model", "outcome", "decide_seconds", "decision", "prompt", "prompt_version", "prompt_variant")
    columns = [charges.c[name] for name in names]
    with database.connect() as connection:
        row = connection.execute(select(*columns).where(charges.c.id == request_id)).one_or_none()
    if row is None:
        raise NoSuchDecision(f"the ledger has no request {request_id}; the id is the x-request-id of its answer")
    if row.decision is None:
        raise NoSuchDecision(
            f"nothing was weighed for request {request_id} (its model was named, or routing was off), or decisions are "
            "not kept (POINTSMAN_KEEP_DECISIONS)"
        )
    prompt = f"{row.prompt}@{row.prompt_version}, {row.prompt_variant or 'no text said'}" if row.prompt else None
    return Kept(request_id, row.at, row.model, row.outcome, row.decide_seconds, orjson.loads(row.decision), prompt)


def read_served(database: Engine, passes: dict[str, float], limit: int) -> Iterator[Served]:
    """The newest answered requests with a decision, at most *limit*. *passes*: names of feedback that are outcomes,
    each with the value from which on it is a pass.
    """
    wanted = (
        select(charges)
        .where(charges.c.decision.is_not(None), charges.c.outcome == "ok", charges.c.cache.is_(None))
        .order_by(charges.c.at.desc())
        .limit(limit)
    )
    with database.connect() as connection:
        rows = connection.execute(wanted).all()
        told = _told(connection.execute(select(feedback.c.request_id, feedback.c.name, feedback.c.value)).all(), passes)
    for row in rows:
        yield Served(orjson.loads(row.decision), row.model, _usage(row), usd_of(row.cost_nano_usd), told.get(row.id))


def _told(rows: Any, passes: dict[str, float]) -> dict[str, bool]:
    """By request; a request of which one name says that it failed has failed."""
    told: dict[str, bool] = {}
    for request_id, name, raw in rows:
        value = orjson.loads(raw)["value"]
        if name in passes and isinstance(value, bool | int | float):
            told[request_id] = told.get(request_id, True) and value >= passes[name]
    return told


def _usage(row: Row[Any]) -> Usage | None:
    if row.prompt_tokens is None or row.completion_tokens is None:
        return None
    return Usage(row.prompt_tokens, row.completion_tokens, row.cached_tokens or 0)
