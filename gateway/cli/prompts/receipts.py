"""Receipts of runs on this machine, a JSON file each: they are found by what they are bound to. Those of a version that
the database has go there, too; others wait here for `push`.
"""

from collections.abc import Iterator
from pathlib import Path

import orjson

from gateway.settings import Settings
from prompts.receipt import Receipt

MOST_KEPT = 2_000  # some 10 KB each; the oldest go
FILES = "r_*.json"


def keep_receipt(settings: Settings, receipt: Receipt) -> Path:
    """Write it once; a receipt never changes."""
    path = _folder(settings) / f"{receipt.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(receipt.document(), option=orjson.OPT_INDENT_2) + b"\n")
    newest = sorted(path.parent.glob(FILES), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in newest[MOST_KEPT:]:
        old.unlink(missing_ok=True)
    return path


def kept_receipts(settings: Settings) -> Iterator[Receipt]:
    """Those that are whole; one that was changed by hand is none."""
    for path in sorted(_folder(settings).glob(FILES)):
        try:
            yield Receipt.read(orjson.loads(path.read_bytes()))
        except ValueError:
            continue


def _folder(settings: Settings) -> Path:
    return settings.data_dir / "prompts" / "receipts"
