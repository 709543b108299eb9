"""A checkpoint made of a GGUF file has its weights, its tokenizer and its end of answers, and always the same bytes."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GenerationConfig

from models.checkpoint import CheckpointError, check, digest
from models.checkpoint_of_gguf import make
from models.job import JobFailed

WIDTH, HEADS, INNER, VOCABULARY = 64, 2, 64, 40
END = 5
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
KEPT = 1 / 250  # of a block's largest weight: Q8_0 keeps 127 steps to either side, bfloat16 8 bits of each


def write_gguf(path: Path, template: str | None = TEMPLATE) -> dict[str, np.ndarray[Any, Any]]:
    """A llama of one layer with random weights in Q8_0; its tensors by their names in a checkpoint."""
    chance = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"<{n}>" for n in range(10)] + ["ab"] + [chr(ord("a") + n) for n in range(VOCABULARY - 11)])
    writer.add_token_types([3] * 10 + [1] * (VOCABULARY - 10))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END)
    if template is not None:
        writer.add_chat_template(template)
    shapes = {
        "token_embd": (VOCABULARY, WIDTH),
        "output": (VOCABULARY, WIDTH),
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
        **{f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")},
    }
    weights = {name: chance.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    for name, weight in weights.items():
        packed = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {
        "model.embed_tokens.weight": weights["token_embd"],
        "model.layers.0.mlp.down_proj.weight": weights["blk.0.ffn_down"],
        "model.layers.0.self_attn.v_proj.weight": weights["blk.0.attn_v"],
    }


def made(gguf_path: Path, folder: Path) -> Path:
    make({"gguf": str(gguf_path), "folder": str(folder), "dtype": "bfloat16"}, lambda step: None)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.gguf"


def test_weights_tokenizer_template_and_end_are_those_of_the_file(path: Path, tmp_path: Path) -> None:
    weights = write_gguf(path)
    folder = made(path, tmp_path / "made")
    tensors = load_file(folder / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    assert check(folder).architecture == "LlamaForCausalLM"
    for name, weight in weights.items():
        assert tensors[name].dtype == torch.bfloat16
        assert np.abs(tensors[name].float().numpy() - weight).max() < KEPT * 2 * np.abs(weight).max()
    assert tokenizer.decode([13, 14]) == "cd"
    assert tokenizer.chat_template == TEMPLATE
    assert GenerationConfig.from_pretrained(folder).eos_token_id == END


def test_the_same_file_makes_the_same_bytes_wherever_it_lies(path: Path, tmp_path: Path) -> None:
    write_gguf(path)
    first = made(path, tmp_path / "first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert digest(made(path.rename(elsewhere / "other.gguf"), tmp_path / "second")) == digest(first)


def test_without_a_template_it_is_made_and_does_not_chat(path: Path, tmp_path: Path) -> None:
    write_gguf(path, template=None)
    folder = made(path, tmp_path / "made")

    check(folder, chats=False)
    with pytest.raises(CheckpointError, match="no chat template"):
        check(folder)


@pytest.mark.parametrize("kept", [0, 3, 100, 5000])
def test_a_file_cut_short_is_refused_and_nothing_is_written(path: Path, tmp_path: Path, kept: int) -> None:
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(JobFailed, match="cannot be read as GGUF"):
        made(path, tmp_path / "made")

    assert not (tmp_path / "made").exists()
