"""kill -9 of a real gateway in the middle of a batch: each request has one line in the end."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from models.scripted import Wait
from tests.gateway.batching.test_runner import asking, create, ended, line, results
from tests.rig import running_rig

pytestmark = pytest.mark.anyio

LINES = 300
KILLS = 4
CALLS_BEFORE_KILL = 60  # at most, so that the last victim too is killed in the middle


def kill_one(folder: Path, calls: int) -> None:
    command = [sys.executable, "-m", "tests.gateway.batching.victim", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as victim:
        assert victim.stdout is not None
        said = [victim.stdout.readline() for _ in range(calls)]
        victim.kill()
    assert said == [b"called\n"] * calls, "it ended by itself"


async def test_kills_lose_no_request_of_a_batch_and_double_none(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with running_rig(tmp_path, large=lambda call: [Wait()]) as r:
        created = await create(r.client, b"".join(line(f"{n}", **asking(f"{n}")) for n in range(LINES)))
        key = r.key
    for _ in range(KILLS):
        await asyncio.to_thread(kill_one, tmp_path, dice.randrange(5, CALLS_BEFORE_KILL))
    async with running_rig(tmp_path) as r, AsyncOpenAI(base_url=f"{r.base_url}/v1", api_key=key) as client:
        batch = await ended(client, created.id)
        output, errors = await results(client, batch)
        assert (batch.status, errors) == ("completed", [])
        assert Counter(one["custom_id"] for one in output) == {f"{n}": 1 for n in range(LINES)}
        assert 0 < len(r.engines["large"].calls) < LINES
