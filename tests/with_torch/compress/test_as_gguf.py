"""A checkpoint as a GGUF file: the same weights under llama.cpp's names and in its order of rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file

from models.compress.__main__ import do
from models.compress.as_gguf import NAMES, OUTER
from models.job import JobFailed
from tests.with_torch.compress.conftest import TEXT, WORDS

Q8_STEP = 1 / 127 / 2 * 1.05  # half a level of the largest of 32 weights, and what a float16 scale loses
HEADS = {"attn_q": 4, "attn_k": 2}


@pytest.fixture
def like(tmp_path: Path, make_checkpoint: Callable[..., Path]) -> tuple[Path, Path]:
    """A checkpoint, and a GGUF file of the model that it came from, with other weights."""
    folder = make_checkpoint()
    back = {f"model.layers.{place}.{own}": f"blk.{place}.{name}" for place in range(3) for name, own in NAMES.items()}
    back |= {own: name for name, own in OUTER.items()}
    writer = gguf.GGUFWriter(str(tmp_path / "like.gguf"), "llama")
    writer.add_block_count(3)
    writer.add_feed_forward_length(256)
    writer.add_file_type(1)
    writer.add_token_list(WORDS)
    writer.add_chat_template("{{ messages }}")
    for name, tensor in load_file(folder / "model.safetensors").items():
        writer.add_tensor(f"{back[name.removesuffix('.weight')]}.weight", np.zeros(tensor.shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder, tmp_path / "like.gguf"


def convert(folder: Path, like: Path, result: Path) -> Any:
    settings = {"source": str(folder), "like": str(like), "result": str(result)}
    do({"job": "as_gguf", "settings": settings, "work": str(result.parent / "work")}, lambda _: None)
    return gguf.GGUFReader(result)


def test_weights_are_those_of_the_checkpoint_in_eight_bits(like: tuple[Path, Path], tmp_path: Path) -> None:
    folder, old = like
    wanted = load_file(folder / "model.safetensors")

    made = convert(folder, old, tmp_path / "made.gguf")

    assert {t.name for t in made.tensors} == {t.name for t in gguf.GGUFReader(old).tensors}
    for tensor in made.tensors:
        home, _, kind = str(tensor.name).rpartition(".")
        block, _, own = home.rpartition(".")
        name = OUTER.get(home) or f"model.layers.{block.split('.')[1]}.{NAMES[own]}"
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if own in HEADS:  # undone as transformers does when it reads such a file
            pairs = values.reshape(HEADS[own], values.shape[0] // HEADS[own] // 2, 2, *values.shape[1:])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        expected = wanted[f"{name}.{kind}"].float().numpy()
        assert np.abs(values - expected).max() <= np.abs(expected).max() * Q8_STEP


def test_vocabulary_and_settings_are_those_of_the_file_it_came_from(like: tuple[Path, Path], tmp_path: Path) -> None:
    made = convert(*like, tmp_path / "made.gguf").fields

    assert made["tokenizer.ggml.tokens"].contents() == WORDS
    assert made["tokenizer.chat_template"].contents() == "{{ messages }}"
    assert made["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0


def test_a_narrower_and_shorter_checkpoint_says_so(like: tuple[Path, Path], tmp_path: Path) -> None:
    folder, old = like
    for method, wish in (("depth", {"drop": 1}), ("width", {"keep": 0.5})):
        made = tmp_path / method
        asked = {"source": str(folder), "result": str(made), "method": method, "calibration": [TEXT], **wish}
        do({"job": "prune", "settings": asked, "work": str(tmp_path / "work")}, lambda _: None)
        folder = made

    file = convert(folder, old, tmp_path / "made.gguf")

    fields = file.fields
    assert (fields["llama.block_count"].contents(), fields["llama.feed_forward_length"].contents()) == (2, 128)
    shapes = {str(tensor.name): tensor.shape.tolist() for tensor in file.tensors}
    assert (shapes["blk.1.ffn_down.weight"], shapes["blk.1.ffn_up.weight"]) == ([128, 64], [64, 128])


def test_a_file_of_another_model_is_refused_and_nothing_is_left(like: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = like
    (tmp_path / "other.gguf").write_bytes(b"GGUF, but nothing else")

    with pytest.raises(JobFailed, match="is no GGUF file, or is cut off"):
        convert(folder, tmp_path / "other.gguf", tmp_path / "made.gguf")
    assert not list(tmp_path.glob("*made.gguf*"))
