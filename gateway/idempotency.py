"""Answers kept under a client's own key, so that a request sent twice is answered once. Blocking; knows no HTTP."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.ledger.tables import idempotency
from gateway.pages import in_utc

KEPT = timedelta(hours=24)
BEAT_SECONDS = 10.0  # whoever answers says so often that it is alive
DEAD_AFTER = timedelta(seconds=35)  # three beats missed: its process is gone, and another may answer
SWEEP_EVERY = 100  # keys between two removals of expired ones


class KeyReused(Exception):
    """The key stands for another request."""


class KeyTaken(Exception):
    """The first request is still being answered."""


@dataclass(frozen=True, slots=True)
class Stored:
    """`prompt`: of the library, where the answer is of one; with its version and the text of it that was said."""

    status: int
    body: str
    prompt: str | None = None
    prompt_version: int | None = None
    prompt_variant: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer. `token` proves it: who is taken for dead, and was not, does not overwrite his successor."""

    caller: str
    key: str
    token: str


class IdempotencyStore:
    """Call from a thread."""

    def __init__(self, database: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock
        self._claimed = 0

    def claim(self, caller: str, key: str, digest: str) -> Claim | Stored:
        """Raises KeyReused, KeyTaken."""
        claim, now = Claim(caller, key, secrets.token_hex(16)), self._clock()
        row = {
            "caller": caller,
            "key": key,
            "body_digest": digest,
            "status": None,
            "response_body": claim.token,
            "created_at": now,
        }
        self._sweep_sometimes(now)
        try:
            with self._database.begin() as connection:
                connection.execute(insert(idempotency).values(row))
            return claim
        except IntegrityError:
            return self._second(claim, row)

    def beat(self, claim: Claim) -> bool:
        """False when the claim has been lost."""
        return self._change(claim, created_at=self._clock())

    def keep(self, claim: Claim, answer: Stored) -> bool:
        """Whether it was: False when the claim has been lost."""
        said = {"status": answer.status, "response_body": answer.body, "created_at": self._clock()}
        prompt = {name: getattr(answer, name) for name in ("prompt", "prompt_version", "prompt_variant")}
        return self._change(claim, **said, **prompt)

    def release(self, claim: Claim) -> None:
        """There is no answer to keep: the key may be used again at once."""
        with self._database.begin() as connection:
            connection.execute(delete(idempotency).where(_held(claim)))

    def _second(self, claim: Claim, fresh: dict[str, Any]) -> Claim | Stored:
        """Somebody was there before; *fresh* is our row, for when he is dead or long gone."""
        mine = and_(idempotency.c.caller == claim.caller, idempotency.c.key == claim.key)
        with self._database.begin() as connection:
            row = connection.execute(select(idempotency).where(mine)).one_or_none()
            if row is None:  # it has just been released
                raise KeyTaken(claim.key)
            lifetime = DEAD_AFTER if row.status is None else KEPT
            if in_utc(row.created_at) + lifetime <= fresh["created_at"]:
                taken = update(idempotency).where(mine, idempotency.c.created_at == row.created_at)
                if connection.execute(taken.values(fresh)).rowcount == 1:
                    return claim
                raise KeyTaken(claim.key)
        if row.body_digest != fresh["body_digest"]:
            raise KeyReused(claim.key)
        if row.status is None:
            raise KeyTaken(claim.key)
        return Stored(row.status, row.response_body, row.prompt, row.prompt_version, row.prompt_variant)

    def _change(self, claim: Claim, **values: object) -> bool:
        with self._database.begin() as connection:
            return connection.execute(update(idempotency).where(_held(claim)).values(**values)).rowcount == 1

    def _sweep_sometimes(self, now: datetime) -> None:
        self._claimed += 1
        if self._claimed % SWEEP_EVERY == 0:
            with self._database.begin() as connection:
                connection.execute(delete(idempotency).where(idempotency.c.created_at <= now - KEPT))


def _held(claim: Claim) -> ColumnElement[bool]:
    row = idempotency.c
    mine = and_(row.caller == claim.caller, row.key == claim.key)
    return and_(mine, row.status.is_(None), row.response_body == claim.token)
