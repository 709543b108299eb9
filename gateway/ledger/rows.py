"""A charge as a row: what the journal's lines and the database's statements are made of. No I/O."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

from gateway.ledger.charge import Charge, Outcome, nano_usd

Row = Sequence[Any]  # values in the order of COLUMNS, as JSON and both databases take them

FIELDS = Charge._fields
COLUMNS = tuple(name.replace("_usd", "_nano_usd") for name in FIELDS)
ID, AT, OUTCOME = (FIELDS.index(name) for name in ("id", "at", "outcome"))
COST, SAFE_COST = (FIELDS.index(name) for name in ("cost_usd", "safe_cost_usd"))
LOST = Outcome.LOST.value
TIME_CHARACTERS = len("2025-01-02 03:04:05.000006")  # as SQLAlchemy writes it to SQLite: no zone, it is UTC
STATEMENT_ROWS = 128  # in one step of the database, which does not hold Python's lock; 4,600 of SQLite's 32,766 values


def row_of(charge: Charge) -> Row:
    row = list(charge)
    row[AT] = charge.at.isoformat(" ", "microseconds")[:TIME_CHARACTERS]
    row[OUTCOME] = charge.outcome.value
    row[COST] = nano_usd(charge.cost_usd)
    row[SAFE_COST] = nano_usd(charge.safe_cost_usd)
    return row


def named(row: Row) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))


def one_each(rows: Iterable[Row]) -> list[Row]:
    """One row for each id: the first that is not `lost`, else the first."""
    chosen: dict[str, Row] = {}
    for row in rows:
        if row[ID] not in chosen or chosen[row[ID]][OUTCOME] == LOST:
            chosen[row[ID]] = row
    return list(chosen.values())


def statements(rows: Sequence[Row], dialect: str) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """SQL with its values that writes *rows*, whose ids differ; in any order and however often, the end is the same."""
    start = 0
    while start < len(rows):
        count = min(STATEMENT_ROWS, 1 << (len(rows) - start).bit_length() - 1)  # few sizes: each is prepared once
        yield _statement(count, dialect), tuple(chain.from_iterable(rows[start : start + count]))
        start += count


@cache
def _statement(count: int, dialect: str) -> str:
    """A row whose request is known to have been lost gives way to any other; no other row ever changes."""
    if dialect == "postgresql":
        marks = ["%s::timestamp at time zone 'UTC'" if name == "at" else "%s" for name in COLUMNS]
    else:
        marks = ["?"] * len(COLUMNS)
    values = ", ".join([f"({', '.join(marks)})"] * count)
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "id")
    return (
        f"insert into charges ({', '.join(COLUMNS)}) values {values} "  # noqa: S608  # names of our own columns
        f"on conflict (id) do update set {updates} "
        f"where charges.outcome = '{LOST}' and excluded.outcome <> '{LOST}'"
    )
