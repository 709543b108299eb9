"""Callers' keys: made once, shown once, kept as keyed digests only."""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger.tables import keys

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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds a key."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of a key."""

    id: str
    name: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None


LOOPBACK_CALLER = Caller("loopback", "a caller on this machine, without a key")


class Keys:
    """The keys of one database. Blocking; call from a thread when in an event loop, except what only looks at what was
    read: `find` and `holder`.
    """

    def __init__(self, database: Engine, pepper: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._callers: Mapping[str, Caller] = {}
        self._read_at = float("-inf")

    def create(self, name: str) -> tuple[str, KeyRecord]:
        """Returns the key itself, which is kept nowhere, and its record."""
        key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        record = KeyRecord(f"key_{secrets.token_hex(6)}", name, key[-HINT_CHARACTERS:], datetime.now(UTC), None)
        with self._database.begin() as connection:
            connection.execute(
                insert(keys).values(
                    id=record.id, name=name, digest=self._digest(key), hint=record.hint, created_at=record.created_at
                )
            )
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
            return [KeyRecord(*row) for row in connection.execute(select(*columns).order_by(keys.c.created_at))]

    @property
    def stale(self) -> bool:
        """True when `refresh` should run before `find`."""
        return self._clock() - self._read_at > REFRESH_SECONDS

    def refresh(self) -> None:
        """Read the valid keys. Raises KeysUnreadable."""
        statement = select(keys.c.digest, keys.c.id, keys.c.name).where(keys.c.revoked_at.is_(None))
        try:
            with self._database.connect() as connection:
                rows = connection.execute(statement).all()
        except SQLAlchemyError as error:
            log.error("keys cannot be read", error=str(error).splitlines()[0])
            raise KeysUnreadable("the database of the keys cannot be read") from error
        self._callers = {digest: Caller(key_id, name) for digest, key_id, name in rows}
        self._read_at = self._clock()

    def find(self, key: str) -> Caller | None:
        """Who holds *key*. The lookup compares keyed digests, so its time tells nothing about other keys."""
        return self._callers.get(self._digest(key))

    def holder(self, caller_id: str) -> Caller | None:
        """Whose valid key has this id."""
        return next((caller for caller in self._callers.values() if caller.id == caller_id), None)

    def _digest(self, key: str) -> str:
        return hmac.new(self._pepper, key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


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
