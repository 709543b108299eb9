"""Responses that clients may come back to, in the ledger's database, each for its caller only. Blocking."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Engine, delete, insert, select

from gateway.ledger.tables import responses

SWEEP_EVERY = 100  # kept responses between two removals of expired ones


@dataclass(frozen=True, slots=True)
class Kept:
    """`items` are the whole conversation up to and including this response, `document` is what the client got."""

    id: str
    caller: str
    previous_id: str | None
    items: list[dict[str, Any]]
    document: dict[str, Any]


class ResponseStore:
    """Call from a thread. An expired response is as one that never was."""

    def __init__(
        self, database: Engine, *, retention: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self._kept = 0

    def keep(self, kept: Kept) -> None:
        now = self._clock()
        row = {
            "id": kept.id,
            "caller": kept.caller,
            "created_at": now,
            "expires_at": now + self._retention,
            "previous_id": kept.previous_id,
            "items": orjson.dumps(kept.items).decode(),
            "document": orjson.dumps(kept.document).decode(),
        }
        with self._database.begin() as connection:
            connection.execute(insert(responses).values(row))
            self._kept += 1
            if self._kept % SWEEP_EVERY == 0:
                connection.execute(delete(responses).where(responses.c.expires_at <= now))

    def find(self, id: str, caller: str) -> Kept | None:
        mine = select(responses).where(
            responses.c.id == id, responses.c.caller == caller, responses.c.expires_at > self._clock()
        )
        with self._database.connect() as connection:
            row = connection.execute(mine).one_or_none()
        if row is None:
            return None
        return Kept(row.id, row.caller, row.previous_id, orjson.loads(row.items), orjson.loads(row.document))

    def forget(self, id: str, caller: str) -> bool:
        """Whether there was such a response."""
        with self._database.begin() as connection:
            found = connection.execute(delete(responses).where(responses.c.id == id, responses.c.caller == caller))
        return found.rowcount == 1
