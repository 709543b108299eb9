"""What lists of stored things have in common: a page of a caller's rows, and times as OpenAI's clients read them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, or_, select


class NoSuchPlace(LookupError):
    """The page shall begin after something that is not there."""


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row[Any]]
    has_more: bool


def page_of(
    connection: Connection,
    table: Table,
    caller: str,
    *,
    after: str | None,
    limit: int,
    descending: bool = True,
    **equal: object,
) -> Page:
    """The *caller*'s rows by time and id, with columns that are *equal* to these. Raises NoSuchPlace."""
    wanted = [table.c.caller == caller, *(table.c[name] == value for name, value in equal.items())]
    if after is not None:
        place = connection.execute(
            select(table.c.created_at, table.c.id).where(table.c.id == after, table.c.caller == caller)
        ).one_or_none()
        if place is None:
            raise NoSuchPlace(after)
        at, id = table.c.created_at, table.c.id
        beyond = at < place.created_at if descending else at > place.created_at
        within = id < place.id if descending else id > place.id
        wanted.append(or_(beyond, and_(at == place.created_at, within)))
    order = (table.c.created_at.desc(), table.c.id.desc()) if descending else (table.c.created_at, table.c.id)
    rows = connection.execute(select(table).where(*wanted).order_by(*order).limit(limit + 1)).all()
    return Page(list(rows[:limit]), len(rows) > limit)


def in_utc(moment: datetime) -> datetime:
    """As it was stored; SQLite forgets the zone, which is UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def unix(moment: datetime | None) -> int | None:
    """Whole seconds since 1970."""
    return None if moment is None else int(in_utc(moment).timestamp())
