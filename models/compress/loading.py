"""A checkpoint as a torch model, and as text again: what every job does first and last."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.compress.checkpoint import Checkpoint, companions

WORKING = torch.float32  # processors without bfloat16 compute are three times faster in it
STORED = torch.bfloat16

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def model_of(checkpoint: Checkpoint, dtype: torch.dtype = WORKING) -> Any:
    """Not trained further unless its caller says so; no code of the checkpoint is run."""
    made = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    return made.eval().requires_grad_(False)


def tokenizer_of(checkpoint: Checkpoint) -> Any:
    return AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)


def blocks_of(model: Any) -> Sequence[nn.Module]:
    return model.model.layers


def linears_of(block: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The matrices of a block by their names in it: `self_attn.q_proj`, `mlp.down_proj`."""
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module


def prompt_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """As an engine sees them: the chat template, up to where the answer begins."""
    text = tokenizer.apply_chat_template([dict(m) for m in messages], add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def windows(tokenizer: Any, texts: Sequence[str], tokens: int, most: int) -> torch.Tensor:
    """The texts one after the other, cut into at most *most* windows: (windows, tokens). What is left over is
    dropped.
    """
    ids = [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    length = min(tokens, len(ids))
    count = min(most, len(ids) // max(length, 1))
    return torch.tensor(ids[: count * length], dtype=torch.long).view(count, length)


def save_dense(model: Any, source: Checkpoint, folder: Path, dtype: torch.dtype = STORED) -> None:
    """*model* with the tokenizer of *source* into the empty *folder*."""
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    copy_companions(source, folder)


def copy_companions(source: Checkpoint, folder: Path) -> None:
    for path in companions(source.folder):
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
