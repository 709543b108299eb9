"""Callers' keys: made once, shown once, kept as keyed digests only; and what their holders may do."""

import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import InvalidKey, NotAllowed
from gateway.ledger.tables import keys
from gateway.limits.budgets import NO_LIMITS, Budgets, Limits, Scope, read_budgets, write_budget
from models.catalog import AUTO

log = structlog.get_logger(__name__)

KEY_PREFIX = "pm-"
KEY_BYTES = 32  # 256 random bits: not to be guessed, so no slow hash is needed
PEPPER_BYTES = 32
HINT_CHARACTERS = 4
REFRESH_SECONDS = 2.0  # how long a key made or revoked by another process may go unnoticed


class KeysUnreadable(Exception):
    """The database of the keys does not answer."""


class KeyNotFound(Exception):
    """No valid key has this id."""


class Role(StrEnum):
    """What a caller may reach: the API, or the operator's pages and routes as well."""

    CLIENT = "client"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key is made with. `models` and `templates`: None is all of them. `expires_at` is UTC."""

    role: Role = Role.CLIENT
    team: str | None = None
    models: frozenset[str] | None = None
    templates: frozenset[str] | None = None
    expires_at: datetime | None = None
    limits: Limits = NO_LIMITS


NO_GRANT = Grant()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds a key, and what they may do; the fields are those of `Grant`."""

    id: str
    name: str
    role: Role = Role.CLIENT
    team: str | None = None
    models: frozenset[str] | None = None
    templates: frozenset[str] | None = None
    expires_at: datetime | None = None
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of a key."""

    id: str
    name: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None
    grant: Grant = field(default=NO_GRANT)


LOOPBACK_CALLER = Caller("loopback", "a caller on this machine, without a key")


def check_allowed(caller: Caller, model: str, template: str | None = None) -> None:
    """Whether *caller* may use the model that was asked for or decided, with this template. Raises NotAllowed.

    `auto` names no model: what it decides is to be checked. A caller bound to templates may not come without one.
    """
    if caller.models is not None and model != AUTO and model not in caller.models:
        raise _model_not_allowed(model, caller.models)
    if caller.templates is not None and template not in caller.templates:
        asked = f"the template {template!r}" if template else "prompts of its own, without a template"
        raise NotAllowed(
            f"this API key may not use {asked}; it may use: {', '.join(sorted(caller.templates)) or 'none'}",
            param="messages",
            code="template_not_allowed",
        )


def allowed_of(caller: Caller, order: tuple[str, ...]) -> tuple[str, ...]:
    """The models of *order* that *caller* may use, in that order. Raises NotAllowed when there is none."""
    if caller.models is None:
        return order
    allowed = tuple(model for model in order if model in caller.models)
    if not allowed:
        raise _model_not_allowed(order[0], caller.models)
    return allowed


def _model_not_allowed(model: str, models: frozenset[str]) -> NotAllowed:
    may = ", ".join(sorted(models)) or "none"
    return NotAllowed(
        f"this API key may not use the model {model!r}; it may use: {may}", param="model", code="model_not_allowed"
    )


class Keys:
    """The keys of one database. Blocking; call from a thread when in an event loop, except `find` on fresh state.

    *clock* is monotonic and says when to read again, *now* is the time of day and says which keys have expired.
    """

    def __init__(
        self,
        database: Engine,
        pepper: bytes,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._keyed = hmac.new(pepper, digestmod="sha256")
        self._clock = clock
        self._now = now
        self._callers: Mapping[bytes, Caller] = {}
        self._budgets: Budgets = {}
        self._read_at = float("-inf")

    def create(self, name: str, grant: Grant = NO_GRANT) -> tuple[str, KeyRecord]:
        """Returns the key itself, which is kept nowhere, and its record."""
        key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        record = KeyRecord(f"key_{secrets.token_hex(6)}", name, key[-HINT_CHARACTERS:], datetime.now(UTC), None, grant)
        with self._database.begin() as connection:
            connection.execute(
                insert(keys).values(
                    id=record.id,
                    name=name,
                    digest=self._digest(key).hex(),
                    hint=record.hint,
                    created_at=record.created_at,
                    role=grant.role.value,
                    team=grant.team,
                    models=_as_text(grant.models),
                    templates=_as_text(grant.templates),
                    expires_at=grant.expires_at,
                )
            )
            write_budget(connection, Scope.CALLER, record.id, grant.limits)
        self._read_at = float("-inf")
        return key, record

    def revoke(self, key_id: str) -> None:
        """Refuse the key from now on. Raises KeyNotFound when there is no such key, or it was revoked before."""
        statement = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        with self._database.begin() as connection:
            found = connection.execute(statement.values(revoked_at=datetime.now(UTC))).rowcount == 1
        self._read_at = float("-inf")
        if not found:
            raise KeyNotFound(f"no key {key_id} that is still valid; see: pointsman keys list")

    def list(self) -> list[KeyRecord]:
        columns = (keys.c.id, keys.c.name, keys.c.hint, keys.c.created_at, keys.c.revoked_at)
        with self._database.connect() as connection:
            budgets = read_budgets(connection)
            rows = connection.execute(select(*columns, *GRANT_COLUMNS).order_by(keys.c.created_at)).all()
        return [KeyRecord(*row[:5], _grant(row[5:], budgets.get((Scope.CALLER, row[0]), NO_LIMITS))) for row in rows]

    @property
    def budgets(self) -> Budgets:
        """Everybody's limits, as `refresh` read them."""
        return self._budgets

    @property
    def stale(self) -> bool:
        """True when `refresh` should run before `find`."""
        return self._clock() - self._read_at > REFRESH_SECONDS

    def refresh(self) -> None:
        """Read the valid keys and the budgets. Raises KeysUnreadable."""
        statement = select(keys.c.digest, keys.c.id, keys.c.name, *GRANT_COLUMNS).where(keys.c.revoked_at.is_(None))
        try:
            with self._database.connect() as connection:
                budgets = read_budgets(connection)
                rows = connection.execute(statement).all()
        except SQLAlchemyError as error:
            log.error("keys cannot be read", error=str(error).splitlines()[0])
            raise KeysUnreadable("the database of the keys cannot be read") from error
        self._callers = {bytes.fromhex(row[0]): _caller(row[1], row[2], row[3:], budgets) for row in rows}
        self._budgets = budgets
        self._read_at = self._clock()

    def find(self, key: str) -> Caller | None:
        """Who holds *key*; None for a key not known here. Raises InvalidKey for one that has expired.

        The lookup compares keyed digests, so its time tells nothing about other keys.
        """
        caller = self._callers.get(self._digest(key))
        if caller is not None and caller.expires_at is not None and caller.expires_at <= self._now():
            raise InvalidKey(
                f"this API key expired on {caller.expires_at:%Y-%m-%d at %H:%M} UTC; ask for a new one "
                "(pointsman keys create NAME)"
            )
        return caller

    def holder(self, caller_id: str) -> Caller | None:
        """Whose key has this id; None when it was revoked or has expired."""
        for caller in self._callers.values():
            if caller.id == caller_id:
                return None if caller.expires_at is not None and caller.expires_at <= self._now() else caller
        return None

    def _digest(self, key: str) -> bytes:
        keyed = self._keyed.copy()  # which is begun once: to look OpenSSL's functions up costs more than the digest
        keyed.update(key.encode("utf-8", "surrogateescape"))
        return keyed.digest()


GRANT_COLUMNS = (keys.c.role, keys.c.team, keys.c.models, keys.c.templates, keys.c.expires_at)


def _caller(key_id: str, name: str, columns: Sequence[Any], budgets: Budgets) -> Caller:
    grant = _grant(columns, budgets.get((Scope.CALLER, key_id), NO_LIMITS))
    return Caller(key_id, name, grant.role, grant.team, grant.models, grant.templates, grant.expires_at, grant.limits)


def _grant(columns: Sequence[Any], limits: Limits) -> Grant:
    role, team, models, templates, expires_at = columns
    if expires_at is not None:  # SQLite keeps no zone; it is UTC
        expires_at = expires_at.replace(tzinfo=UTC) if expires_at.tzinfo is None else expires_at.astimezone(UTC)
    return Grant(Role(role), team, _as_set(models), _as_set(templates), expires_at, limits)


def _as_text(names: frozenset[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(names))


def _as_set(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(json.loads(text))


def read_pepper(data_dir: Path) -> bytes:
    """The secret that makes a stolen database useless; made on first use, readable by its owner only."""
    path = data_dir / "pepper"
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as out:
        pepper = secrets.token_bytes(PEPPER_BYTES)
        out.write(pepper)
    return pepper
