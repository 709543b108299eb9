"""OpenAI's SDK for Node calls a prompt: three ways, two endpoints, streamed and not. That for Python is in
`tests/gateway/prompting`.
"""

import asyncio
import json
import os
import shutil
import subprocess
from itertools import product

import pytest

from tests.clients.programs import NODE_CLIENTS
from tests.gateway.prompting.world import FIRST, LIBRARY, heard, publish
from tests.gateway.wire import OpenRig

pytestmark = [pytest.mark.clients, pytest.mark.anyio]

CASES = [" ".join(case) for case in product(("chat", "responses"), ("prompt", "model", "header"), ("false", "true"))]


async def test_node_calls_a_prompt_in_every_way(rig: OpenRig) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    assert (NODE_CLIENTS / "node_modules").exists(), "the clients for Node are missing; install them with: make clients"
    async with rig() as r:
        publish(r, LIBRARY)
        environment = {**os.environ, "POINTSMAN_URL": r.base_url, "POINTSMAN_KEY": r.key}
        done = await asyncio.to_thread(
            subprocess.run,
            [node, "prompts.mjs"],
            cwd=NODE_CLIENTS,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told.pop("missing") == {"returned": ["NotFoundError", 404, "prompt_not_found"]}
        assert told == {case: {"returned": ["large answer", "1"]} for case in CASES}
        assert heard(r.engines["large"].calls) == [[("system", FIRST), ("user", "It crashes.")]] * len(CASES)
