"""Receipts, kept as files until the database has them: one JSON document each, found by what they are bound to."""

from collections.abc import Iterator
from pathlib import Path

import orjson

from gateway.settings import Settings
from prompts.receipt import Receipt


def keep_receipt(settings: Settings, receipt: Receipt) -> Path:
    """Write it once; a receipt never changes."""
    path = _folder(settings) / f"{receipt.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(receipt.document(), option=orjson.OPT_INDENT_2) + b"\n")
    return path


def kept_receipts(settings: Settings) -> Iterator[Receipt]:
    """Those that are whole; one that was changed by hand is none."""
    for path in sorted(_folder(settings).glob("r_*.json")):
        try:
            yield Receipt.read(orjson.loads(path.read_bytes()))
        except ValueError:
            continue


def _folder(settings: Settings) -> Path:
    return settings.data_dir / "prompts" / "receipts"
