"""The built wheel holds everything: it is imported from elsewhere, without the source tree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROBE = """
import gateway.app, gateway.cli, router.strategies, models.engines, prompts.grade
from gateway.ledger.database import newest_revision
from models.catalog import load_catalog
from router.difficulty import load_difficulty
from router.outcomes import read_looks, read_outcomes
assert newest_revision() and list(load_catalog()) and list(read_outcomes()) and read_looks() and load_difficulty()
print(gateway.__file__)
"""


@pytest.mark.timeout(300)
def test_the_wheel_works_without_the_source_tree(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the build backend is a program
    tools = {**os.environ, "PATH": path}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels, site, elsewhere = tmp_path / "wheels", tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(ROOT)]
    subprocess.run(build, env=tools, check=True)
    wheel = next(wheels.glob("pointsman-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    probe = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert probe.stdout.strip().startswith(str(site)), probe.stdout
