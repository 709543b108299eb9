"""Records of templates and model builds, in the ledger's database. Blocking; knows no runtime.

A record is changed by reading it, computing the new one and writing that unless somebody else was faster, then again:
so any number of processes may count at once, and nothing is locked meanwhile.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.ledger.tables import evidence
from router.record import Record, document_of, new_record, record_of

TRIES = 20  # of a change against others at the same record; each try takes a millisecond

Key = tuple[str, str]  # template and build
Change = Callable[[Record], Record]
Also = Callable[[Connection], object]


class Contended(Exception):
    """Others changed the record all the time."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as it is in the database. `updated_at` is UTC."""

    key: Key
    record: Record
    updated_at: datetime


class RecordStore:
    """Call from a thread."""

    def __init__(self, database: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def change(self, key: Key, how: Change, also: Also = lambda connection: None) -> Record:
        """Put `how(record)` in the place of the record of *key*, which is new where there is none; in the same
        transaction do *also*. Raises Contended.
        """
        for _ in range(TRIES):
            found = self._find(key)
            try:
                with self._database.begin() as connection:
                    changed = self._replaced(connection, key, how, found) if found else self._made(connection, key, how)
                    if changed is not None:
                        also(connection)
                        return changed
            except IntegrityError:  # somebody else has made it, or has taken the place
                continue
        raise Contended(f"the record of template {key[0]} and build {key[1]} is changed by too many at once")

    def change_existing(
        self, template: str, builds: Collection[str] | None, how: Change, also: Also = lambda connection: None
    ) -> Sequence[Key]:
        """The same for every record of *template*, or those of *builds* alone. Which they were."""
        wanted = select(evidence.c.build).where(evidence.c.template == template)
        with self._database.connect() as connection:
            there = [build for (build,) in connection.execute(wanted.order_by(evidence.c.build))]
        keys = [(template, build) for build in there if builds is None or build in builds]
        for key in keys:
            self.change(key, how, also)
        return keys

    def read(self, since: datetime | None = None, template: str | None = None) -> Iterator[Kept]:
        """Those changed *since* then; all where it is None."""
        wanted = select(evidence).order_by(evidence.c.template, evidence.c.build)
        if since is not None:
            wanted = wanted.where(evidence.c.updated_at >= since)
        if template is not None:
            wanted = wanted.where(evidence.c.template == template)
        with self._database.connect() as connection:
            for row in connection.execute(wanted):
                at = row.updated_at  # SQLite keeps no zone; it is UTC
                at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
                yield Kept((row.template, row.build), record_of(orjson.loads(row.record)), at)

    def shrink(self, most: int, never: Collection[str]) -> int:
        """Forget the longest untouched until there are at most *most*; how many that were.

        Never a record of the templates *never*, which a table trusts, since what suspended them would be forgotten
        too; any other loses at most trust. Never the last place, so that no place is given twice.
        """
        with self._database.begin() as connection:
            over = connection.execute(select(func.count()).select_from(evidence)).scalar_one() - most
            if over <= 0:
                return 0
            last = connection.execute(select(func.max(evidence.c.place))).scalar_one()
            oldest = select(evidence.c.place, evidence.c.template).order_by(evidence.c.updated_at)
            places = [p for p, template in connection.execute(oldest) if template not in never and p != last][:over]
            for start in range(0, len(places), 500):
                connection.execute(delete(evidence).where(evidence.c.place.in_(places[start : start + 500])))
            return len(places)

    def _find(self, key: Key) -> tuple[Record, int] | None:
        wanted = select(evidence.c.record, evidence.c.revision).where(*_is(key))
        with self._database.connect() as connection:
            row = connection.execute(wanted).one_or_none()
        return (record_of(orjson.loads(row.record)), row.revision) if row else None

    def _replaced(self, connection: Connection, key: Key, how: Change, found: tuple[Record, int]) -> Record | None:
        """None when somebody else was faster."""
        before, revision = found
        changed = how(before)
        statement = update(evidence).where(*_is(key), evidence.c.revision == revision)
        values = {"record": _text(changed), "revision": revision + 1, "updated_at": self._clock()}
        return changed if connection.execute(statement.values(values)).rowcount == 1 else None

    def _made(self, connection: Connection, key: Key, how: Change) -> Record:
        place = (connection.execute(select(func.max(evidence.c.place))).scalar_one() or 0) + 1
        made = how(new_record(place))
        values = {"template": key[0], "build": key[1], "place": place, "record": _text(made), "revision": 1}
        connection.execute(insert(evidence).values(**values, updated_at=self._clock()))
        return made


def _is(key: Key) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return evidence.c.template == key[0], evidence.c.build == key[1]


def _text(record: Record) -> str:
    return orjson.dumps(document_of(record)).decode()
