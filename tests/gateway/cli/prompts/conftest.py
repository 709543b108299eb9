"""`world`: see `world.py`."""

from pathlib import Path

import pytest

from tests.gateway.cli.prompts.world import World
from tests.terminal import Terminal


@pytest.fixture
def world(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(terminal, tmp_path, monkeypatch)
