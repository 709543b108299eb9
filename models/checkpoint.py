"""A folder of weights in Hugging Face's format: what must be in it, what is never taken, and its digest.

Reads headers and hashes bytes; nothing in a folder is ever run. Knows nothing of where folders come from.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weights import Checkpoint

CONTENT = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"})
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})  # loading one runs whatever is written in it
PAPERS = frozenset({"card.json"})  # what is known of a checkpoint is no part of it
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
ADAPTER = "adapter_config.json"
BLOCK_BYTES = 1 << 20
HEADER_LIMIT_BYTES = 100_000_000  # of a safetensors file, by its own specification
DOCUMENT_LIMIT_BYTES = 64 << 20  # a tokenizer of 250,000 tokens is 35 MB


class CheckpointError(Exception):
    """The folder is no checkpoint that can be served; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What engines must know of a checkpoint before they load it. `method` is how it is quantised: compressed-tensors,
    awq, gptq, bitsandbytes, ...; `scheme` what compressed-tensors calls it: pack-quantized, int-quantized, ...
    """

    architecture: str
    method: str | None = None
    scheme: str | None = None
    chats: bool = True


def contents(folder: Path) -> list[Path]:
    """The files that belong to a checkpoint, in the order of their names: not its papers, and no code."""
    return sorted(
        (p for p in folder.iterdir() if p.suffix in CONTENT and p.name not in PAPERS and p.is_file()),
        key=lambda path: path.name,
    )


def digest(folder: Path, on_bytes: Callable[[int], None] = lambda _: None) -> tuple[str, int]:
    """The SHA-256 of the list `sha256sum` prints of the folder's contents, and their size together. *on_bytes* is told
    how many have been read, again and again.
    """
    whole, done_bytes = hashlib.sha256(), 0
    for path in contents(folder):
        each = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                each.update(block)
                done_bytes += len(block)
                on_bytes(done_bytes)
        whole.update(f"{each.hexdigest()}  {path.name}\n".encode())
    return whole.hexdigest(), done_bytes


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in contents(folder))


def check(folder: Path, *, chats: bool = True) -> Facts:
    """Raises CheckpointError unless *folder* is whole and safe: safetensors whose headers fit their files, and what
    an engine needs beside them. *chats*: it must have a chat template. An adapter has weights and its configuration.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    weights = [path for path in contents(folder) if path.suffix == ".safetensors"]
    if not weights:
        raise CheckpointError(f"{folder}: {_without_weights(folder)}")
    for path in weights:
        _check_whole(path)
    if (folder / ADAPTER).is_file():
        return Facts(architecture="", chats=False)
    facts = facts_of(folder)
    if missing := sorted(_shards(folder) - {path.name for path in weights}):
        raise CheckpointError(
            f"{folder}: {missing[0]} is missing, which model.safetensors.index.json names: get it anew"
        )
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise CheckpointError(f"{folder}: has no tokenizer (one of {', '.join(TOKENIZERS)}); copy its model's into it")
    if chats and not facts.chats:
        raise CheckpointError(
            f"{folder}: its tokenizer has no chat template: put one into chat_template.jinja,"
            " or take chat out of the row's abilities (abilities: [completions])"
        )
    return facts


def facts_of(folder: Path) -> Facts:
    """Raises CheckpointError where there is no configuration, or it does not say what the model is."""
    config = _document(folder / "config.json")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise CheckpointError(f"{folder / 'config.json'}: names no architecture; it is no model's configuration")
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        quantised = {}
    return Facts(str(architectures[0]), quantised.get("quant_method"), quantised.get("format"), _has_template(folder))


def of_folder(folder: Path, *sources: Any) -> Checkpoint:
    """How a catalogue's row names *folder*."""
    sha256, size = digest(folder)
    return Checkpoint(sha256=sha256, size_bytes=size, sources=sources)


def _without_weights(folder: Path) -> str:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        return (
            f"{pickles[0]} is a pickle, and loading one runs whatever code is in it; only safetensors and GGUF are"
            " taken: look for a safetensors revision of the model"
        )
    return "holds no .safetensors; it is no checkpoint"


def _check_whole(path: Path) -> None:
    """By the header, which says where each tensor lies: https://github.com/huggingface/safetensors, "Format"."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_LIMIT_BYTES, size):
            raise CheckpointError(f"{path}: is no safetensors file, or is cut short; get it anew")
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise CheckpointError(f"{path}: its header is damaged; get it anew") from None
    needed = 8 + length + max(ends, default=0)
    if size != needed:
        raise CheckpointError(f"{path}: has {size} bytes, and its header says {needed}; it was cut short: get it anew")


def _shards(folder: Path) -> set[str]:
    """The weights that an index names, where there is one."""
    index = folder / "model.safetensors.index.json"
    named = _document(index).get("weight_map") if index.is_file() else None
    return {str(name) for name in named.values()} if isinstance(named, dict) else set()


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(_document(config).get("chat_template"))


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > DOCUMENT_LIMIT_BYTES:
            raise CheckpointError(f"{path}: is larger than any such file should be")
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is missing; it is no checkpoint without") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: is no JSON; get it anew") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is no JSON object; get it anew")
    return found
