"""A catalogue row for what was made: printed, and written beside it, to be pasted into a catalogue or the settings file."""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from models.catalog import Ability, Model, UrlSource, WeightsFile

SMALLEST_FIRST_TIER = 0
BESIDE = "row.yaml"


def gguf_row(name: str, path: Path, like: Model) -> Model:
    """Of the GGUF file *path*, made of the model of the row *like*: what it costs to run is not known yet."""
    with open(path, "rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    source = UrlSource(url=path.resolve().as_uri())
    file = WeightsFile(sha256=digest, size_bytes=path.stat().st_size, sources=(source,))
    return Model(
        name=name,
        engine="llamacpp",
        tier=SMALLEST_FIRST_TIER,
        context_tokens=like.context_tokens,
        abilities=frozenset(like.abilities) - {Ability.TOOLS},
        licence=like.licence,
        file=file,
        memory_limit_bytes=like.memory_limit_bytes,
    )


def yaml_of(row: Model) -> str:
    """As a list with one row, to be pasted under `models:`."""
    return yaml.safe_dump([_plain(row)], sort_keys=False, allow_unicode=True, width=120)


def _plain(row: Model) -> dict[str, Any]:
    said = row.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    if "abilities" in said:
        said["abilities"] = sorted(said["abilities"])
    return said
