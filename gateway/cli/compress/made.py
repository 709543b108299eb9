"""The papers of what was made: its card (card.json, README.md) and its catalogue row (row.yaml), in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli.compress.cards import CARD, README, readme, write_json
from gateway.cli.compress.rows import BESIDE, checkpoint_row, yaml_of
from gateway.cli.compress.sources import Named
from gateway.cli.screen import console
from models.catalog import Model


def finish(origin: Named, out: Path, command: str, facts: Mapping[str, Any], *, engine: str) -> Model:
    """Write them, and show the row."""
    row = checkpoint_row(out, origin.row, engine)
    card = {
        "name": row.name,
        "command": command,
        "of": {"name": origin.name, "build": origin.row.build if origin.row else None, "folder": str(origin.folder)},
        "build": row.build,
        "facts": dict(facts),
        "measured": None,
    }
    put(out, card, row)
    console.print(f"\n{out} is made. Its row, for a catalogue or the settings file:\n", highlight=False, soft_wrap=True)
    console.print(yaml_of(row), highlight=False, markup=False, soft_wrap=True)
    console.print(f"It has proved nothing yet: pointsman models bench {out}", highlight=False, soft_wrap=True)
    return row


def put(out: Path, card: Mapping[str, Any], row: Model) -> None:
    (out / BESIDE).write_text(yaml_of(row), encoding="utf-8")
    write_json(out / CARD, card)
    (out / README).write_text(readme(card, yaml_of(row)), encoding="utf-8")
