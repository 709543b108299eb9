"""A checkpoint: a folder with config.json, a tokenizer and safetensors. Looked at before anybody loads it. No torch.

Nothing in it is run: weights as pickles are refused, and so is code that a config names.
"""

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.compress.job import Refused

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
QUANTIZATION = "quantization_config"
LONGEST_HEADER_BYTES = 100 << 20  # safetensors' own limit
LENGTH_BYTES = 8  # of a header, little-endian, before it
BLOCK = re.compile(r"^model\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    path: Path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Whole: every file that is named is there, and as long as its header says."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        """Of the weights."""
        return sum(tensor.size_bytes for tensor in self.tensors.values())

    @property
    def blocks(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def is_quantized(self) -> bool:
        return QUANTIZATION in self.config


def look(folder: Path) -> Checkpoint:
    """Raises Refused, naming what is missing or broken."""
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder; a checkpoint is a folder with {CONFIG}, a tokenizer and safetensors")
    config = _document(folder / CONFIG)
    tensors = {tensor.name: tensor for path in _weights(folder) for tensor in _tensors(path)}
    _check_config(folder, config)
    _check_tokenizer(folder)
    found = Checkpoint(folder, config, tensors)
    _check_tensors(found)
    return found


def dense(folder: Path) -> Checkpoint:
    """As `look`; what is quantised already is refused, since rounding twice helps nobody."""
    found = look(folder)
    if found.is_quantized:
        method = found.config[QUANTIZATION].get("quant_method", "some method")
        raise Refused(f"{folder}: is quantised already ({method}); name the checkpoint that it was made from")
    return found


def companions(folder: Path) -> Iterator[Path]:
    """The files beside the weights that a copy needs: tokenizer, template, generation settings."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".jinja", ".model", ".txt") and path.name not in (CONFIG, INDEX):
            yield path


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Refused(f"{path.parent}: has no {path.name}; it is no checkpoint, or its copy is not complete") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: is not JSON ({error}); copy the file again") from error
    if not isinstance(document, dict):
        raise Refused(f"{path}: holds no JSON object; copy the file again")
    return document


def _weights(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        named = _document(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise Refused(f"{folder / INDEX}: names no weights; copy the file again")
        names = sorted({os.path.basename(str(name)) for name in named.values()})
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise Refused(f"{folder}: {', '.join(missing)} of its index is not there; copy it again")
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if found:
        return found
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise Refused(
            f"{folder}: its weights are a pickle ({pickles[0]}), which runs code when it is read; only safetensors and "
            "GGUF are taken. Convert it where you trust it, e.g. with transformers' save_pretrained"
        )
    raise Refused(f"{folder}: has no *.safetensors")


def _tensors(path: Path) -> Iterator[Tensor]:
    """From the header alone. Raises Refused for a file that is cut off or not safetensors."""
    size_bytes = path.stat().st_size
    with open(path, "rb") as weights:
        start = weights.read(LENGTH_BYTES)
        length = struct.unpack("<Q", start)[0] if len(start) == LENGTH_BYTES else 0
        if not 2 <= length <= min(LONGEST_HEADER_BYTES, size_bytes - LENGTH_BYTES):
            raise Refused(f"{path}: is no safetensors file, or is cut off in its header; copy it again")
        raw = weights.read(length)
    try:
        header = json.loads(raw)
        rows = [(name, row) for name, row in header.items() if name != "__metadata__"]
        found = [(n, str(r["dtype"]), tuple(map(int, r["shape"])), *map(int, r["data_offsets"])) for n, r in rows]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise Refused(f"{path}: its header is broken ({error}); copy it again") from error
    promised_bytes = LENGTH_BYTES + length + max((end for *_, end in found), default=0)
    if promised_bytes != size_bytes:
        raise Refused(f"{path}: has {size_bytes} bytes, its header says {promised_bytes}; it is cut off, copy it again")
    for name, dtype, shape, begin, end in found:
        yield Tensor(name, dtype, shape, end - begin, path)


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    named = config.get("architectures") or ["none"]
    if named[0] not in ARCHITECTURES:
        raise Refused(f"{folder}: architecture {named[0]} is not known here; there are {', '.join(ARCHITECTURES)}")
    if "auto_map" in config:
        raise Refused(f"{folder}: its config names code of its own (auto_map), which is not run here")
    if not isinstance(config.get("num_hidden_layers"), int):
        raise Refused(f"{folder / CONFIG}: has no num_hidden_layers; copy the file again")


def _check_tokenizer(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise Refused(f"{folder}: has no tokenizer ({' or '.join(TOKENIZERS)}); copy it from where the model came from")
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return
    path = folder / "tokenizer_config.json"
    if not path.is_file() or not _document(path).get("chat_template"):
        raise Refused(
            f"{folder}: its tokenizer has no chat template, so it cannot be asked in messages; put chat_template.jinja "
            "of the model's card beside it"
        )


def _check_tensors(checkpoint: Checkpoint) -> None:
    blocks = {int(match[1]) for name in checkpoint.tensors if (match := BLOCK.match(name))}
    missing = sorted(set(range(checkpoint.blocks)) - blocks)
    if missing:
        raise Refused(f"{checkpoint.folder}: weights of block {missing[0]} of {checkpoint.blocks} are not there")
    if "model.embed_tokens.weight" not in checkpoint.tensors:
        raise Refused(f"{checkpoint.folder}: has no model.embed_tokens.weight")
