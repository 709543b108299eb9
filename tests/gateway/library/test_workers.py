"""`pointsman serve` with two workers: a label that one has moved serves in both within two seconds."""

import time
from pathlib import Path

import pytest

from tests.gateway.library.test_api import NEW, SAID
from tests.gateway.test_workers import connecting, everywhere, make_key, two_workers

pytestmark = pytest.mark.anyio

SEEN_SECONDS = 2.0


async def test_a_label_that_one_worker_has_moved_serves_in_all_of_them(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        key = make_key(tmp_path, "--role", "admin")
        async with connecting(server, key) as client:
            assert (await client.post("/v1/prompts", json={"id": "say", "prompt": SAID})).status_code == 200
            moved = await client.put("/v1/prompts/say/labels/staging", json={"version": 1}, headers=NEW)
            assert moved.status_code == 200
            until = time.monotonic() + SEEN_SECONDS
            while any('"staging":1' not in text for text in await everywhere(client, "/v1/prompts")):
                assert time.monotonic() < until, "a worker has not heard of it"
        assert server.stop() == 0
    assert "Traceback" not in server.log
