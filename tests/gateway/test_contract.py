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
# Schemathesis' own, and 413: what violates a schema may also be too large, which is seen before it is read.
REFUSED = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
SEED = "6"  # so that what fails does so again


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("contract")
    (folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    settings = {"POINTSMAN_CATALOG": str(folder / "catalog.yaml"), "POINTSMAN_MODELS": "all"}
    with serving(folder / "gateway", settings) as server:
        server.wait_until_ready()
        yield server


def test_every_answer_is_as_the_description_says(gateway: Server, tmp_path: Path) -> None:
    said = as_described(gateway, gateway.key, tmp_path, "--max-examples", str(EXAMPLES))
    cases = re.search(r"(\d+) generated", said)
    assert cases is not None, said[-2000:]
    assert int(cases[1]) > 500


def as_described(server: Server, key: str, folder: Path, *options: str) -> str:
    """Schemathesis finds nothing; what it says. It keeps a database of examples in *folder*."""
    (folder / "schemathesis.toml").write_text(REFUSED, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.base_url}/openapi.json"]
    command += ["--exclude-checks", EXCEPT, "--no-color", "--workers", "2", "--seed", SEED]
    done = subprocess.run(
        [*command, "--header", f"Authorization: Bearer {key}", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert "unhandled" not in server.log
    return done.stdout
