"""A catalogue row for what was made: printed, and written beside it, to be pasted into a catalogue or the settings
file.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from gateway.cli.compress.running import CompressFailed
from models.catalog import Ability, Model
from models.checkpoint import of_folder
from models.weights import FolderSource, UrlSource, WeightsFile

SMALLEST_FIRST_TIER = 0
CONTEXT_TOKENS = 4096  # of a folder without a row: what most can do
ABILITIES = {
    "vllm": frozenset({Ability.CHAT, Ability.COMPLETIONS, Ability.STRUCTURED, Ability.LOGPROBS, Ability.CHOICES}),
    "transformers": frozenset({Ability.CHAT, Ability.COMPLETIONS, Ability.LOGPROBS}),
}
NOT_NAMED = re.compile(r"[^A-Za-z0-9._-]+")
BESIDE = "row.yaml"


def gguf_row(name: str, path: Path, like: Model) -> Model:
    """Of the GGUF file *path*, made of the model of the row *like*, whose speed it has until its own is measured."""
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
        speed=like.speed,
        memory_limit_bytes=like.memory_limit_bytes,
    )


def name_of(folder: Path) -> str:
    """What a catalogue takes for a name; a model is called like its folder."""
    return NOT_NAMED.sub("-", folder.resolve().name).lstrip("-._") or "build"


def checkpoint_row(folder: Path, like: Model | None, engine: str, name: str | None = None) -> Model:
    """Of the checkpoint in *folder*, made of the model of the row *like*."""
    return Model(
        name=name or name_of(folder),
        engine=engine,  # type: ignore[arg-type]  # one of the two that read checkpoints
        tier=SMALLEST_FIRST_TIER,
        context_tokens=like.context_tokens if like else CONTEXT_TOKENS,
        abilities=ABILITIES[engine],
        licence=like.licence if like else "",
        checkpoint=of_folder(folder, FolderSource(folder=str(folder.resolve()))),
    )


def row_in(folder: Path) -> Model | None:
    """The row that a command has written there; None where there is none. Raises CompressFailed."""
    path = folder / BESIDE
    if not path.is_file():
        return None
    try:
        [said] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Model.model_validate(said)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise CompressFailed(f"{path}: is no catalogue row ({error}); remove it") from error


def yaml_of(row: Model) -> str:
    """As a list with one row, to be pasted under `models:`."""
    return yaml.safe_dump([_plain(row)], sort_keys=False, allow_unicode=True, width=120)


def _plain(row: Model) -> dict[str, Any]:
    said = row.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    if "abilities" in said:
        said["abilities"] = sorted(said["abilities"])
    return said
