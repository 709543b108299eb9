"""Limits that several processes share through the ledger's database: SQLite on one machine, PostgreSQL for replicas.

Counters change in one statement that also checks the cap, so two processes can never both take the last cent. Times are
the database's own: one clock for all. Knows SQL; one transaction for each step, in a thread.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, time
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    and_,
    bindparam,
    case,
    delete,
    extract,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from gateway.ledger.tables import limit_counters as counters
from gateway.ledger.tables import limit_holds as holds
from gateway.limits.claim import (
    HOLD_SECONDS,
    NEVER_BEGUN,
    SEEDED_KEPT_SECONDS,
    WINDOW_KEPT_SECONDS,
    Actual,
    Claim,
    Kind,
    Refused,
    Reservation,
    Unreachable,
    came_to,
)
from gateway.limits.uninterrupted import Uninterrupted
from gateway.limits.unsettled import Unsettled

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 10.0  # between two looks for what was held too long; before a refusal it is looked for anyway
SWEEP_HOLDS = 500  # at a time, so that a sweep after many crashes does not keep the others waiting
POSTGRES_THREADS = 8  # less than SQLAlchemy's pool has connections
SKEW_MS = 1000  # how long a transaction may wait for a lock after it has read the clock
ID_BYTES = 12

Result = TypeVar("Result")


class DatabaseStore:
    """A LimitStore whose counters outlive the process. Raises Unreachable when the database does not answer."""

    degraded = False

    def __init__(self, database: Engine, clock: Callable[[], float] = time) -> None:
        """*clock* is SQLite's, which has no better one; PostgreSQL is asked for its own."""
        self._database = database
        self._clock = clock
        self._postgres = database.dialect.name == "postgresql"
        self._threads = anyio.CapacityLimiter(POSTGRES_THREADS if self._postgres else 1)  # SQLite has one writer
        self._steps = Uninterrupted()
        self._unsettled = Unsettled(self._settle)
        self._swept_at = float("-inf")

    async def reserve(self, claims: Sequence[Claim]) -> Reservation:
        reservation = await self._steps.run(self._in_thread(lambda: self._reserve(tuple(claims))), self._give_back)
        if self._unsettled:
            self._steps.begin(self._unsettled.again())
        return reservation

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        await self._steps.run(self._unsettled.settle(reservation, actual))

    async def seed(self, spent: Mapping[str, int]) -> None:
        await self._in_thread(lambda: self._seed(spent))

    async def close(self) -> None:
        await self._steps.close()
        await self._unsettled.again()

    async def _give_back(self, reservation: Reservation) -> None:
        await self._unsettled.settle(reservation, NEVER_BEGUN)

    async def _settle(self, reservation: Reservation, actual: Actual) -> None:
        await self._in_thread(lambda: self._count(reservation, actual))

    async def _in_thread(self, step: Callable[[], Result]) -> Result:
        try:
            return await anyio.to_thread.run_sync(step, limiter=self._threads)
        except (DBAPIError, PoolTimeoutError) as error:
            log.error("limits cannot be kept in the database", error=str(error).splitlines()[0])
            raise Unreachable("the database of the limits does not answer") from error

    def _reserve(self, claims: tuple[Claim, ...]) -> Reservation:
        if monotonic() - self._swept_at > SWEEP_SECONDS:
            self._sweep()
            self._forget()
        try:
            return self._take(claims)
        except Refused:
            if not self._may_have_room(claims):
                raise
        self._sweep()
        self._set_back(claims)
        return self._take(claims)

    def _take(self, claims: tuple[Claim, ...]) -> Reservation:
        reservation, used = secrets.token_hex(ID_BYTES), {}
        with self._transaction() as (connection, now_ms):
            for claim in sorted(claims, key=_key):  # in one order everywhere: no two processes wait for each other
                used[claim.key] = self._take_one(connection, claim, now_ms)
            connection.execute(insert(holds), [_hold_row(reservation, claim, now_ms) for claim in claims])
        return Reservation(reservation, claims, tuple(claim.left(used[claim.key]) for claim in claims))

    def _take_one(self, connection: Connection, claim: Claim, now_ms: int) -> int:
        """What is used of the limit with the claim in it. Raises Refused, which undoes the transaction."""
        drained, units = _drained(claim, now_ms), claim.amount * claim.scale
        taking = update(counters).where(_of(claim), drained + units <= claim.cap * claim.scale)
        taking = taking.values(used=drained + units, at_ms=_at_ms(now_ms), forget_ms=_forget_ms(claim, now_ms))
        used = connection.execute(taking.returning(counters.c.used)).scalar()
        if used is None:
            self._make(connection, claim.key, 0, now_ms, _forget_ms(claim, now_ms))
            used = connection.execute(taking.returning(counters.c.used)).scalar()
        if used is None:
            full = connection.execute(select(drained).where(_of(claim)).with_for_update()).scalar_one()
            if full + units > claim.cap * claim.scale:
                raise Refused(claim, claim.left(full), claim.retry_after_seconds(full))
            used = connection.execute(taking.returning(counters.c.used)).scalar_one()  # freed meanwhile, and locked now
        return int(used)

    def _count(self, reservation: Reservation, actual: Actual) -> None:
        with self._transaction() as (connection, now_ms):
            gone = delete(holds).where(holds.c.reservation == reservation.id).returning(holds.c.key, holds.c.units)
            held = {key: units for key, units in connection.execute(gone)}
            for claim in sorted(reservation.claims, key=_key):
                if claim.key in held:
                    change = came_to(claim, actual) * claim.scale - held[claim.key]
                    changed = _not_under_zero(_drained(claim, now_ms) + change)
                    connection.execute(update(counters).where(_of(claim)).values(used=changed, at_ms=_at_ms(now_ms)))

    def _sweep(self) -> None:
        """Give back what was held too long; the hold itself stays as long again, for a settlement that comes late.

        Counters are locked in the order of their keys, as everywhere.
        """
        self._swept_at = monotonic()
        with self._transaction() as (connection, now_ms):
            due = select(holds).where(holds.c.expires_ms <= now_ms).order_by(holds.c.key).limit(SWEEP_HOLDS)
            rows = connection.execute(due.with_for_update(skip_locked=True)).all()
            for row in rows:
                own = (holds.c.reservation == row.reservation, holds.c.key == row.key)
                if not row.units:
                    connection.execute(delete(holds).where(*own))
                    continue
                connection.execute(update(holds).where(*own).values(units=0, expires_ms=now_ms + HOLD_SECONDS * 1000))
                freed = _not_under_zero(counters.c.used - row.units)
                connection.execute(update(counters).where(counters.c.key == row.key).values(used=freed))

    def _may_have_room(self, claims: tuple[Claim, ...]) -> bool:
        """Whether something is due to be given back, or a counter is ahead of the clock. Only reads."""
        with self._database.connect() as connection:
            now_ms = self._now_ms(connection)
            due = select(holds.c.key).where(holds.c.expires_ms <= now_ms, holds.c.units > 0).exists()
            ahead = select(counters.c.key).where(_ahead(claims, now_ms)).exists()
            return bool(connection.execute(select(or_(due, ahead))).scalar_one())

    def _set_back(self, claims: tuple[Claim, ...]) -> None:
        """Counters of a time to come, after the clock was set back, go on from now."""
        with self._transaction() as (connection, now_ms):
            connection.execute(update(counters).where(_ahead(claims, now_ms)).values(at_ms=now_ms))

    def _forget(self) -> None:
        with self._transaction() as (connection, now_ms):
            connection.execute(delete(counters).where(counters.c.forget_ms <= now_ms))

    def _seed(self, spent: Mapping[str, int]) -> None:
        with self._transaction() as (connection, now_ms):
            for key, amount in sorted(spent.items()):
                self._make(connection, key, 0, now_ms, now_ms + SEEDED_KEPT_SECONDS * 1000)
                more = update(counters).where(counters.c.key == key, counters.c.used < amount)
                connection.execute(more.values(used=amount))

    def _make(self, connection: Connection, key: str, used: int, now_ms: int, forget_ms: int) -> None:
        dialect = postgresql if self._postgres else sqlite
        row = {"key": key, "used": used, "at_ms": now_ms, "forget_ms": forget_ms}
        connection.execute(dialect.insert(counters).values(row).on_conflict_do_nothing())

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that writes, and its time in milliseconds since 1970."""
        with self._database.begin() as connection:
            if not self._postgres:
                # SQLite's own BEGIN takes the write lock at the first write; a read before that may be out of date.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection, self._now_ms(connection)

    def _now_ms(self, connection: Connection) -> int:
        if not self._postgres:
            return int(self._clock() * 1000)
        epoch_seconds = select(extract("epoch", func.clock_timestamp()))
        return int(connection.execute(epoch_seconds).scalar_one() * 1000)


def _ahead(claims: tuple[Claim, ...], now_ms: int) -> ColumnElement[bool]:
    return and_(counters.c.key.in_([claim.key for claim in claims]), counters.c.at_ms > now_ms + SKEW_MS)


def _drained(claim: Claim, now_ms: int) -> ColumnElement[int]:
    """What the counter is at now; a clock that was set back drains nothing, and goes on from there."""
    if claim.kind is not Kind.BUCKET:
        return counters.c.used
    passed_ms = case((counters.c.at_ms < now_ms, bindparam(None, now_ms, BigInteger) - counters.c.at_ms), else_=0)
    return _not_under_zero(counters.c.used - bindparam(None, claim.drain, BigInteger) * passed_ms)


def _at_ms(now_ms: int) -> ColumnElement[int]:
    """As of when the counter is: now. Another process may have come first with a later time, which then stays."""
    at_ms = counters.c.at_ms
    return case((and_(at_ms > now_ms, at_ms <= now_ms + SKEW_MS), at_ms), else_=now_ms)


def _not_under_zero(amount: ColumnElement[int]) -> ColumnElement[int]:
    return case((amount > 0, amount), else_=0)


def _of(claim: Claim) -> ColumnElement[bool]:
    return counters.c.key == claim.key


def _key(claim: Claim) -> str:
    return claim.key


def _forget_ms(claim: Claim, now_ms: int) -> int:
    return now_ms + int(1000 * ((claim.resets_seconds or 0) + WINDOW_KEPT_SECONDS))


def _hold_row(reservation: str, claim: Claim, now_ms: int) -> dict[str, Any]:
    expires_ms = now_ms + HOLD_SECONDS * 1000
    return {
        "reservation": reservation,
        "key": claim.key,
        "units": claim.amount * claim.scale,
        "expires_ms": expires_ms,
    }
