"""Schemathesis over our own OpenAPI document: whatever fits it, and whatever does not, the answers are as it says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.server import Server, serving

EXAMPLES = 40  # for each operation; the coverage phase adds its own
CATALOG = """
models:
  - name: small
    engine: scripted
    tier: 0
    context_tokens: 1000
    parallel: 64
    abilities: [chat, completions, embeddings, tools, structured, logprobs, choices]
    price: {input_usd: "0.1", output_usd: "0.2"}
"""
# What its schema allows may still name a model, a file or a response that is not there.
EXCEPT = "positive_data_acceptance"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("contract")
    (folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    settings = {"POINTSMAN_CATALOG": str(folder / "catalog.yaml"), "POINTSMAN_MODELS": "all"}
    with serving(folder / "gateway", settings) as server:
        server.wait_until_ready()
        yield server


def test_every_answer_is_as_the_description_says(gateway: Server, tmp_path: Path) -> None:
    command = ["run", f"{gateway.base_url}/openapi.json", "--exclude-checks", EXCEPT, "--no-color", "--workers", "2"]
    options = ["--max-examples", str(EXAMPLES), "--header", f"Authorization: Bearer {gateway.key}"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), *command, *options],
        cwd=tmp_path,  # it keeps a database of examples where it runs
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None, done.stdout[-2000:]
    assert int(cases[1]) > 500
    assert "unhandled" not in gateway.log
