"""The cards of all builds that were measured on this machine, by build, in the data directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli.compress.cards import Card, load, write_json
from gateway.settings import Settings


def builds_folder(settings: Settings) -> Path:
    return settings.data_dir / "builds"


def keep(settings: Settings, card: Mapping[str, Any]) -> None:
    builds_folder(settings).mkdir(parents=True, exist_ok=True)
    write_json(builds_folder(settings) / f"{card['build']}.json", card)


def kept(settings: Settings) -> dict[str, Card]:
    """By build. Raises CompressFailed for a card that cannot be read."""
    return {path.stem: load(path) for path in sorted(builds_folder(settings).glob("*.json"))}
