"""Outcomes that callers tell of their requests, in the ledger's database, one for each name. Blocking."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Engine, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.ledger.tables import charges, feedback
from gateway.pages import unix

NAMES_LIMIT = 32  # of one request; each is a row for as long as the ledger has the charge

Value = bool | int | float | str


class Kind(StrEnum):
    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"


def kind_of(value: Value) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


@dataclass(frozen=True, slots=True)
class Feedback:
    """`value` is judged by `kind`, which a later one of the same name may change."""

    request_id: str
    name: str
    value: Value
    comment: str | None
    created_at: datetime
    updated_at: datetime

    def document(self) -> dict[str, Any]:
        return {
            "object": "feedback",
            "request_id": self.request_id,
            "name": self.name,
            "kind": kind_of(self.value).value,
            "value": self.value,
            "comment": self.comment,
            "created_at": unix(self.created_at),
            "updated_at": unix(self.updated_at),
        }


class TooManyNames(Exception):
    """The request has feedback of NAMES_LIMIT other names."""


class FeedbackStore:
    """Call from a thread."""

    def __init__(self, database: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def is_charged(self, request_id: str, caller: str) -> bool:
        """Whether the ledger has this request of this caller."""
        wanted = select(charges.c.id).where(charges.c.id == request_id, charges.c.caller == caller)
        with self._database.connect() as connection:
            return connection.execute(wanted).one_or_none() is not None

    def put(self, request_id: str, caller: str, name: str, value: Value, comment: str | None) -> Feedback:
        """The only one of that name from now on. Raises TooManyNames; a few at once may each still find a place."""
        now = self._clock()
        row = {
            "value": orjson.dumps({"value": value, "comment": comment}).decode(),
            "kind": kind_of(value).value,
            "updated_at": now,
            "due": True,
        }
        key = {"request_id": request_id, "caller": caller, "name": name}
        mine = [feedback.c[column] == part for column, part in key.items()]
        try:
            with self._database.begin() as connection:
                others = select(func.count()).select_from(feedback).where(*mine[:2], feedback.c.name != name)
                if connection.execute(others).scalar_one() >= NAMES_LIMIT:
                    raise TooManyNames
                connection.execute(insert(feedback).values({**key, **row, "created_at": now}))
        except IntegrityError:
            with self._database.begin() as connection:
                connection.execute(update(feedback).where(*mine).values(row))
        with self._database.connect() as connection:
            return _feedback(connection.execute(select(feedback).where(*mine)).one())

    def told(self, request_id: str, caller: str) -> list[Feedback]:
        """By name."""
        mine = select(feedback).where(feedback.c.request_id == request_id, feedback.c.caller == caller)
        with self._database.connect() as connection:
            return [_feedback(row) for row in connection.execute(mine.order_by(feedback.c.name))]


def _feedback(row: Row[Any]) -> Feedback:
    said = orjson.loads(row.value)
    return Feedback(row.request_id, row.name, said["value"], said["comment"], row.created_at, row.updated_at)
