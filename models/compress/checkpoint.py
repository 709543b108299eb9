"""What is in a checkpoint that is to be made smaller: its tensors by name, before anybody loads them. No torch.

That it is whole and safe is for `models.checkpoint` to say; that its shape is one that is known here, for this.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoint import CheckpointError, check, contents
from models.job import JobFailed

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
QUANTIZATION = "quantization_config"
INDEX = "model.safetensors.index.json"
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
    """Raises JobFailed, naming what is missing or broken."""
    try:
        check(folder)
    except CheckpointError as error:
        raise JobFailed(str(error)) from error
    config = json.loads((folder / CONFIG).read_bytes())
    weights = [path for path in contents(folder) if path.suffix == ".safetensors"]
    tensors = {tensor.name: tensor for path in weights for tensor in _tensors(path)}
    _check_config(folder, config)
    found = Checkpoint(folder, config, tensors)
    _check_tensors(found)
    return found


def dense(folder: Path) -> Checkpoint:
    """As `look`; what is quantised already is refused, since rounding twice helps nobody."""
    found = look(folder)
    if found.is_quantized:
        method = found.config[QUANTIZATION].get("quant_method", "some method")
        raise JobFailed(f"{folder}: is quantised already ({method}); name the checkpoint that it was made from")
    return found


def companions(folder: Path) -> Iterator[Path]:
    """The files beside the weights that a copy needs: tokenizer, template, generation settings."""
    for path in contents(folder):
        if path.suffix != ".safetensors" and path.name not in (CONFIG, INDEX):
            yield path


def _tensors(path: Path) -> Iterator[Tensor]:
    """From the header alone, which `check` has read before."""
    with open(path, "rb") as weights:
        header = json.loads(weights.read(int.from_bytes(weights.read(LENGTH_BYTES), "little")))
    for name, row in header.items():
        if name != "__metadata__":
            begin, end = row["data_offsets"]
            yield Tensor(name, row["dtype"], tuple(row["shape"]), end - begin, path)


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    named = config.get("architectures") or ["none"]
    if named[0] not in ARCHITECTURES:
        raise JobFailed(f"{folder}: architecture {named[0]} is not known here; there are {', '.join(ARCHITECTURES)}")
    if "auto_map" in config:
        raise JobFailed(f"{folder}: its config names code of its own (auto_map), which is not run here")
    if not isinstance(config.get("num_hidden_layers"), int):
        raise JobFailed(f"{folder / CONFIG}: has no num_hidden_layers; copy the file again")


def _check_tensors(checkpoint: Checkpoint) -> None:
    blocks = {int(match[1]) for name in checkpoint.tensors if (match := BLOCK.match(name))}
    missing = sorted(set(range(checkpoint.blocks)) - blocks)
    if missing:
        raise JobFailed(f"{checkpoint.folder}: weights of block {missing[0]} of {checkpoint.blocks} are not there")
    if "model.embed_tokens.weight" not in checkpoint.tensors:
        raise JobFailed(f"{checkpoint.folder}: has no model.embed_tokens.weight")
