"""Callers' keys: shown once, kept as digests, and refused soon after they are revoked."""

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest
from sqlalchemy import Engine

from gateway.keys import KEY_PREFIX, REFRESH_SECONDS, Caller, KeyNotFound, Keys, read_pepper
from gateway.ledger.database import open_database
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
