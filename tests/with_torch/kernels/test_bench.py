"""The measurement for GPUs runs: on one it times, elsewhere the interpreter goes through every row of it."""

import os
import subprocess
import sys
from pathlib import Path

import orjson


def test_every_row_of_the_measurement_is_right(tmp_path: Path) -> None:
    """Rows hold themselves to plain torch, and end the program where they differ."""
    found = tmp_path / "rows.json"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}

    subprocess.run(
        [sys.executable, "-m", "tests.bench.gpu", "--dry", "--json", str(found)], check=True, env=environment
    )

    rows = orjson.loads(found.read_bytes())["rows"]
    assert {row["part"] for row in rows} == {"decode", "choice", "4-bit weights"}
    assert all(row["error"] is not None for row in rows if row["way"].startswith("ours") and row["part"] != "choice")
