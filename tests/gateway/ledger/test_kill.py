"""kill -9 of a real process that writes charges under load: none is lost, none is doubled."""

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.ledger.tables import charges
from tests.gateway.ledger.victim import CLIENTS

pytestmark = pytest.mark.anyio

VICTIMS = 2  # at once, over one database and one folder of journals
KILLS_OF_EACH = 10
LINES_BEFORE_KILL = 4_000  # at most: several segments of the victim's journal, many transactions


def kill_one(url: str, journal_dir: Path, lines: int) -> list[tuple[str, str]]:
    """What a victim said until it was killed after it had said about *lines* lines."""
    command = [sys.executable, "-m", "tests.gateway.ledger.victim", url, str(journal_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as victim:
        assert victim.stdout is not None
        said = [victim.stdout.readline() for _ in range(lines)]
        victim.kill()
        said += victim.stdout.readlines()
    whole = [line.decode().split() for line in said if line.endswith(b"\n")]
    assert len(whole) >= lines, "it ended by itself"
    return [(word, request_id) for word, request_id in whole]


def kill_several(url: str, journal_dir: Path, dice: random.Random) -> list[tuple[str, str]]:
    deaths = (kill_one(url, journal_dir, dice.randrange(1, LINES_BEFORE_KILL)) for _ in range(KILLS_OF_EACH))
    return [word for words in deaths for word in words]


@pytest.mark.timeout(180)
async def test_twenty_kills_lose_no_charge_and_double_none(tmp_path: Path) -> None:
    """Victims take up what earlier ones left, while they serve; what the last ones left is taken up here."""
    url, journal_dir = f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "journal"
    database = open_database(url)
    deaths = (asyncio.to_thread(kill_several, url, journal_dir, random.Random(seed)) for seed in range(VICTIMS))
    said = [word for words in await asyncio.gather(*deaths) for word in words]
    ledger = Ledger(database, journal_dir)
    await ledger.flush()
    ledger.close()
    found = outcomes(database)
    database.dispose()
    begun = {request_id for word, request_id in said if word == "begun"}
    ended = {request_id for word, request_id in said if word == "ended"}
    assert {request_id for request_id in ended if found.get(request_id) != "ok"} == set()
    assert begun - found.keys() == set()
    unheard = found.keys() - begun  # killed between its line in the journal and its word to us
    assert len(unheard) <= VICTIMS * KILLS_OF_EACH
    assert 0 < Counter(found.values())["lost"] <= VICTIMS * KILLS_OF_EACH * CLIENTS
    assert os.listdir(journal_dir) == []


def outcomes(database: Engine) -> dict[str, str]:
    with database.connect() as connection:
        rows = connection.execute(select(charges.c.id, charges.c.outcome)).all()
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: row.outcome for row in rows}
