"""`pointsman serve` with two workers: what one has moved, a command has pushed or the folder has serves in all."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.gateway.library.test_api import NEW, SAID
from tests.gateway.test_workers import FILE as SETTINGS
from tests.gateway.test_workers import connecting, everywhere, make_key, two_workers
from tests.processes import until
from tests.prompts.trees import FILES, write
from tests.prompts.trees import PROMPT as FILE
from tests.real.server import environment

pytestmark = pytest.mark.anyio

SEEN_SECONDS = 2.0
READ_SECONDS = 20.0  # a reload builds everything anew, on a machine that may be busy


async def seen(client: httpx2.AsyncClient, path: str, text: str, seconds: float) -> None:
    """Returns once every worker says *text* at *path*."""
    end = time.monotonic() + seconds
    while any(text not in said for said in await everywhere(client, path)):
        assert time.monotonic() < end, f"a worker has not heard of {text}"


async def test_a_label_that_one_worker_has_moved_serves_in_all_of_them(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        key = make_key(tmp_path, "--role", "admin")
        async with connecting(server, key) as client:
            assert (await client.post("/v1/prompts", json={"id": "say", "prompt": SAID})).status_code == 200
            moved = await client.put("/v1/prompts/say/labels/staging", json={"version": 1}, headers=NEW)
            assert moved.status_code == 200
            await seen(client, "/v1/prompts", '"staging":1', SEEN_SECONDS)
        assert server.stop() == 0
    assert "Traceback" not in server.log


async def test_a_changed_folder_serves_in_all_workers_on_sighup_and_by_push_and_a_broken_one_changes_nothing(
    tmp_path: Path,
) -> None:
    root = write(tmp_path / "prompts", FILES)
    prompt = root / "a/b/b.prompt.yaml"
    with two_workers(tmp_path, f"{SETTINGS}prompts: {{folder: {root}}}\n") as server:
        key = make_key(tmp_path, "--role", "admin")
        async with connecting(server, key) as client:
            await seen(client, "/v1/prompts", '"latest":1', SEEN_SECONDS)
            prompt.write_text(FILE.replace("Say something", "Say more"), encoding="utf-8")
            server.process.send_signal(signal.SIGHUP)
            await seen(client, "/v1/prompts", '"latest":2', READ_SECONDS)

            prompt.write_text("messages: [\n", encoding="utf-8")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.metric("pointsman_reloads_total", result="refused") > 0, READ_SECONDS, "refused")
            assert f"{prompt}:2" in server.log
            await seen(client, "/v1/prompts", '"latest":2', SEEN_SECONDS)

            prompt.write_text(FILE.replace("Say something", "Say most"), encoding="utf-8")
            pushed = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "gateway", "prompts", "push", "--dir", str(root)],
                env=environment(tmp_path, {"POINTSMAN_CONFIG": str(tmp_path / "pointsman.yaml")}),
                capture_output=True,
                text=True,
                check=False,
            )
            assert pushed.returncode == 0, pushed.stdout + pushed.stderr
            await seen(client, "/v1/prompts", '"latest":3', SEEN_SECONDS)
        assert server.stop() == 0
    assert "Traceback" not in server.log
