"""Schemathesis over the management of prompts, with the key of an admin: no answer is a fault of ours."""

import subprocess
import sys
from pathlib import Path

from tests.gateway.test_contract import CATALOG, EXCEPT
from tests.gateway.test_workers import make_key
from tests.real.server import serving

EXAMPLES = 25  # for each operation


def test_every_answer_to_an_admin_is_as_the_description_says(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (folder / "pointsman.yaml").write_text("{}\n", encoding="utf-8")  # of the defaults; `make_key` reads it
    settings = {"POINTSMAN_CATALOG": str(tmp_path / "catalog.yaml"), "POINTSMAN_MODELS": "all"}
    with serving(folder, settings) as server:
        server.wait_until_ready()
        key = make_key(folder, "--role", "admin")
        command = ["run", f"{server.base_url}/openapi.json", "--include-path-regex", "^/v1/prompts", "--no-color"]
        options = ["--exclude-checks", EXCEPT, "--workers", "2", "--max-examples", str(EXAMPLES)]
        options += ["--header", f"Authorization: Bearer {key}"]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("schemathesis")), *command, *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:]
        assert "unhandled" not in server.log
