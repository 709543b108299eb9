"""A model of the family of the real ones, small enough to be made anew in each test."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["<unk>", "<end>", *"abcdefgh", "red", "green", "blue", "one", "two", "three", "four", "five", "yes", "no"]
TEXT = "a red b green c blue one two three four five yes no a b c d e f g h red red blue " * 40
TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "model", blocks: int = 3, seed: int = 0, spread: float = 0.02, positions: int = 512) -> Path:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=64,
            intermediate_size=256,  # of two steps of what pruning by width rounds to
            num_hidden_layers=blocks,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            initializer_range=spread,
            eos_token_id=1,
            bos_token_id=1,
            pad_token_id=1,
        )
        folder = tmp_path / name
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>")
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        return folder

    return make


def config_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "config.json").read_text())
    return found
