"""A request that names no prompt runs no prompt code: what renders and validates is not even loaded."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import asyncio, sys, tempfile
from pathlib import Path
from tests.rig import running_rig

NEVER = {"minijinja", "jsonschema_rs", "gateway.prompting.named"}
AT_START = {"prompts.render", "prompts.variables"}  # the library's records check what they keep

async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with running_rig(Path(folder)) as r:
            before = sys.modules.keys() & AT_START
            say = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
            for path, body in {
                "/v1/chat/completions": say,
                "/v1/responses": {"model": "auto", "input": "hello"},
                "/v1/messages": {**say, "model": "large", "max_tokens": 5},
                "/v1/decision": say,
            }.items():
                answer = await r.http.post(path, json=body)
                assert answer.status_code == 200, answer.text
                assert "x-prompt-id" not in answer.headers
            assert (await r.http.get("/v1/models")).status_code == 200
            print("loaded:", sorted(sys.modules.keys() & (NEVER | AT_START) - before))
            answer = await r.http.post("/v1/chat/completions", json={"prompt": {"id": "none"}})
            assert answer.status_code == 404, answer.text
            print("then:", "gateway.prompting.named" in sys.modules)

asyncio.run(main())
"""


def test_requests_without_a_prompt_load_nothing_that_renders() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["loaded: []", "then: True"]
