"""Clients that run as programs of their own, beside the tests: in another Python, or in Node."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.server import EMBEDDER, LARGE, SMALL, Server

ROOT = Path(__file__).parents[2]
PYTHON_CLIENTS = ROOT / ".venv-clients"
NODE_CLIENTS = ROOT / "tests" / "clients" / "node"
RUN_TIMEOUT_SECONDS = 240.0  # all cases of one client take 15 to 25 s on two free cores, three times that on busy ones


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What each case of a client returned or raised."""

    cases: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, case: str) -> Any:
        """What *case* returned, as JSON. Fails with the client's own traceback when it raised."""
        outcome = self.cases[case]
        if "raised" in outcome:
            pytest.fail(f"{case} failed in the client:\n{outcome['raised']}", pytrace=False)
        return outcome["returned"]


def outcomes_of(command: Sequence[str], server: Server, folder: Path = ROOT) -> Outcomes:
    """Those of a program that prints them as one JSON object."""
    ran = subprocess.run(
        command,
        cwd=folder,
        env=client_environment(server),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return Outcomes(json.loads(ran.stdout))


def client_environment(server: Server) -> dict[str, str]:
    """Where the gateway is; nothing else of whoever runs the tests but where programs are."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",  # no configuration of the user's own
        "POINTSMAN_URL": server.base_url,
        "POINTSMAN_KEY": server.key,
        "POINTSMAN_SMALL": SMALL,
        "POINTSMAN_LARGE": LARGE,
        "POINTSMAN_EMBEDDER": EMBEDDER,
    }


def python_program(name: str) -> str:
    """A program of `.venv-clients`."""
    program = PYTHON_CLIENTS / "bin" / name
    assert program.exists(), f"{program} is missing; install it with: make clients"
    return str(program)
