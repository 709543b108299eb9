"""Callers' keys: shown once, kept as digests, and refused soon after they are revoked."""

import asyncio
import hashlib
import hmac
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, inspect, text

from gateway.errors import InvalidKey, NotAllowed
from gateway.keys import (
    KEY_PREFIX,
    REFRESH_SECONDS,
    Caller,
    Grant,
    KeyNotFound,
    Keys,
    Role,
    allowed_of,
    check_allowed,
    read_pepper,
)
from gateway.ledger.database import MIGRATIONS, open_database
from gateway.limits.budgets import Limits, Scope, remove_budget, set_budget
from tests.gateway.wire import OpenRig

PEPPER = b"p" * 32


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'pointsman.db'}")
    yield opened
    opened.dispose()


def test_a_key_is_found_after_it_was_made_and_not_after_it_was_revoked(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    key, record = keys.create("ann")
    assert key.startswith(KEY_PREFIX)
    assert record.hint == key[-4:]
    keys.refresh()
    assert keys.find(key) == Caller(record.id, "ann")
    keys.revoke(record.id)
    assert keys.stale
    keys.refresh()
    assert keys.find(key) is None


def test_only_the_whole_key_is_a_key(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    key, record = keys.create("ann")
    keys.refresh()
    for wrong in ("", key[:-1], key + "x", key.upper(), record.id, record.hint, "\udcff", "\u00e9"):
        assert keys.find(wrong) is None


def test_no_two_keys_are_the_same(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    made = [keys.create("ann") for _ in range(20)]
    assert len({key for key, _ in made}) == len({record.id for _, record in made}) == 20
    assert min(len(key) for key, _ in made) > 40


def test_keys_of_another_pepper_are_unknown(database: Engine) -> None:
    key, _ = Keys(database, PEPPER).create("ann")
    other = Keys(database, b"q" * 32)
    other.refresh()
    assert other.find(key) is None


def test_the_database_does_not_hold_the_key(database: Engine, tmp_path: Path) -> None:
    key, record = Keys(database, PEPPER).create("ann")
    database.dispose()  # writes the log into the file
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert record.id.encode() in held
    assert key.encode() not in held
    assert key.removeprefix(KEY_PREFIX).encode() not in held
    assert key.encode()[:16] not in held


def test_a_list_shows_every_key_by_its_last_characters_only(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    made = [keys.create(name) for name in ("ann", "bob")]
    keys.revoke(made[0][1].id)
    listed = keys.list()
    assert [(record.name, record.hint) for record in listed] == [("ann", made[0][0][-4:]), ("bob", made[1][0][-4:])]
    assert [record.revoked_at is None for record in listed] == [False, True]
    assert not any(key in repr(listed) for key, _ in made)


def test_revoking_what_is_not_there_says_so(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    _, record = keys.create("ann")
    keys.revoke(record.id)
    for key_id in (record.id, "key_0"):
        with pytest.raises(KeyNotFound, match="pointsman keys list"):
            keys.revoke(key_id)


def test_keys_are_read_again_when_they_are_two_seconds_old(database: Engine) -> None:
    clock = Clock()
    keys = Keys(database, PEPPER, clock)
    stale = [keys.stale]
    keys.refresh()
    for seconds in (REFRESH_SECONDS, 0.01):
        clock.now += seconds
        stale.append(keys.stale)
    assert stale == [True, False, True]
    assert REFRESH_SECONDS <= 2


def test_the_pepper_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    pepper = read_pepper(folder)
    assert len(pepper) == 32
    assert read_pepper(folder) == pepper
    assert stat.S_IMODE((folder / "pepper").stat().st_mode) == 0o600


NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GRANT = Grant(
    Role.ADMIN,
    "search",
    frozenset({"small", "large"}),
    frozenset({"0123456789abcdef"}),
    NOW + timedelta(days=30),
    Limits(1_500_000_000, 20_000_000_000, 60, 10_000, 4),
)


def test_what_a_key_was_made_with_is_what_its_holder_may_do(database: Engine) -> None:
    keys = Keys(database, PEPPER, now=lambda: NOW)
    key, record = keys.create("ann", GRANT)
    keys.refresh()
    found = keys.find(key)
    assert found == Caller(
        record.id, "ann", GRANT.role, GRANT.team, GRANT.models, GRANT.templates, GRANT.expires_at, GRANT.limits
    )
    assert [shown.grant for shown in keys.list()] == [GRANT]


def test_a_key_that_may_use_nothing_is_told_from_one_that_may_use_everything(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    key, _ = keys.create("ann", Grant(models=frozenset()))
    keys.refresh()
    found = keys.find(key)
    assert found is not None
    assert (found.models, found.templates) == (frozenset(), None)


@pytest.mark.parametrize(("past_seconds", "expired"), [(-1, False), (0, True), (1, True)])
def test_an_expired_key_is_refused_with_the_day_it_expired(database: Engine, past_seconds: int, expired: bool) -> None:
    expires_at = NOW + timedelta(hours=1)
    keys = Keys(database, PEPPER, now=lambda: expires_at + timedelta(seconds=past_seconds))
    key, _ = keys.create("ann", Grant(expires_at=expires_at))
    keys.refresh()
    if not expired:
        assert keys.find(key) is not None
        return
    with pytest.raises(InvalidKey, match="expired on 2026-11-25 at 13:00 UTC") as refused:
        keys.find(key)
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_budgets_are_read_with_the_keys(database: Engine) -> None:
    keys = Keys(database, PEPPER)
    key, record = keys.create("ann")
    set_budget(database, Scope.TEAM, "search", Limits(day_nano_usd=5))
    set_budget(database, Scope.CALLER, record.id, Limits(concurrency=2))
    keys.refresh()
    found = keys.find(key)
    assert found is not None
    assert found.limits == Limits(concurrency=2)
    assert keys.budgets[Scope.TEAM, "search"] == Limits(day_nano_usd=5)
    remove_budget(database, Scope.CALLER, record.id)
    keys.refresh()
    assert keys.find(key) == Caller(record.id, "ann")


FREE = Caller("k", "ann")
BOUND = Caller("k", "ann", models=frozenset({"small", "mid"}), templates=frozenset({"t1"}))


@pytest.mark.parametrize(
    ("caller", "model", "template", "code"),
    [
        (FREE, "large", None, None),
        (FREE, "large", "t9", None),
        (BOUND, "small", "t1", None),
        (BOUND, "auto", "t1", None),
        (BOUND, "large", "t1", "model_not_allowed"),
        (BOUND, "small", "t2", "template_not_allowed"),
        (BOUND, "small", None, "template_not_allowed"),
        (BOUND, "SMALL", "t1", "model_not_allowed"),
    ],
)
def test_a_caller_may_use_what_the_key_names_and_nothing_else(
    caller: Caller, model: str, template: str | None, code: str | None
) -> None:
    if code is None:
        check_allowed(caller, model, template)
        return
    with pytest.raises(NotAllowed) as refused:
        check_allowed(caller, model, template)
    assert (refused.value.status, refused.value.type, refused.value.code) == (403, "invalid_request_error", code)
    assert "it may use: " in refused.value.message


def test_of_a_decision_only_the_models_that_are_allowed_are_tried() -> None:
    assert allowed_of(FREE, ("small", "large")) == ("small", "large")
    assert allowed_of(BOUND, ("small", "large", "mid")) == ("small", "mid")
    with pytest.raises(NotAllowed, match="it may use: mid, small"):
        allowed_of(BOUND, ("large",))


def migrate(database: Engine, move: Callable[[Config, str], None], revision: str) -> None:
    with database.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        move(config, revision)


def test_keys_made_before_keys_had_roles_and_limits_stay_usable(tmp_path: Path) -> None:
    """The digest in the old row was made as the first release made it."""
    url = f"sqlite:///{tmp_path / 'pointsman.db'}"
    old = create_engine(url)
    migrate(old, command.upgrade, "0001")
    with old.begin() as connection:
        digest = hmac.new(PEPPER, b"pm-old", hashlib.sha256).hexdigest()
        row = f"('key_1', 'ann', '{digest}', '-old', '2025-01-02 03:04:05.000000')"
        connection.execute(text(f"insert into keys (id, name, digest, hint, created_at) values {row}"))  # noqa: S608
    assert not inspect(old).has_table("budgets")
    old.dispose()
    new = open_database(url)
    keys = Keys(new, PEPPER)
    keys.refresh()
    assert keys.find("pm-old") == Caller("key_1", "ann")
    migrate(new, command.downgrade, "0001")
    assert not inspect(new).has_table("budgets")
    assert {column["name"] for column in inspect(new).get_columns("keys")} == {
        "id",
        "name",
        "digest",
        "hint",
        "created_at",
        "revoked_at",
    }
    new.dispose()


@pytest.mark.anyio
async def test_a_running_gateway_notices_keys_of_another_process_within_two_seconds(rig: OpenRig) -> None:
    async with rig() as r:
        assert (await r.http.get("/v1/models")).status_code == 200
        other = Keys(open_database(r.runtime.settings.database), read_pepper(r.runtime.settings.data_dir))
        key, _ = other.create("second")
        other.revoke(other.list()[0].id)
        start = perf_counter()
        while (await r.http.get("/v1/models")).status_code == 200:  # noqa: ASYNC110  # another process gives no event
            await asyncio.sleep(0.05)
        assert perf_counter() - start < REFRESH_SECONDS + 0.5
        second = await r.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        assert second.status_code == 200
        other._database.dispose()
