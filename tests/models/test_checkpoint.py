"""What is taken for a checkpoint, what is refused and with which remedy, and what its digest is."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import CheckpointError, Facts, check, digest, of_folder
from models.weights import FolderSource
from tests.models.checkpoints import safetensors, write_checkpoint

BAD = [
    (lambda f: (f / "model.safetensors").unlink(), "no .safetensors"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pytorch_model.bin is a pickle.*safetensors"),
    (lambda f: _cut(f / "model.safetensors", 8), r"model.safetensors: .*cut short.*get it anew"),
    (lambda f: _cut(f / "model.safetensors", -4), r"model.safetensors: has \d+ bytes.*cut short"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "no safetensors file"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\2" + b"\0" * 7 + b"[]"), "header is damaged"),
    (lambda f: (f / "config.json").unlink(), "config.json: is missing"),
    (lambda f: (f / "config.json").write_text("{"), "config.json: is no JSON"),
    (lambda f: (f / "config.json").write_text("[]"), "config.json: is no JSON object"),
    (lambda f: (f / "config.json").write_text("{}"), "names no architecture"),
    (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
    (lambda f: (f / "chat_template.jinja").unlink(), "no chat template.*chat_template.jinja.*abilities"),
    (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-2-of-2.safetensors"}}'),
        "model-2-of-2.safetensors is missing",
    ),
]


def _cut(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "whole")


def test_a_whole_folder_says_what_engines_must_know(whole: Path) -> None:
    assert check(whole) == Facts("LlamaForCausalLM")


def test_how_it_is_quantised_is_known(tmp_path: Path) -> None:
    quantised = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    facts = check(write_checkpoint(tmp_path / "w4", quantization_config=quantised))

    assert (facts.method, facts.scheme) == ("compressed-tensors", "pack-quantized")


@pytest.mark.parametrize(("spoil", "told"), BAD)
def test_what_cannot_be_served_is_refused_with_the_file_and_the_remedy(
    whole: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(whole)
    with pytest.raises(CheckpointError, match=told):
        check(whole)


def test_without_chat_no_template_is_needed(whole: Path) -> None:
    (whole / "chat_template.jinja").unlink()

    assert not check(whole, chats=False).chats


def test_a_template_in_the_tokenizers_configuration_counts(whole: Path) -> None:
    (whole / "chat_template.jinja").unlink()
    (whole / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}', encoding="utf-8")

    assert check(whole).chats


def test_an_adapter_needs_no_tokenizer_and_no_template(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors())
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")

    check(tmp_path)


def test_the_digest_is_what_a_shell_says(whole: Path) -> None:
    """An operator can check it without us, and papers beside the weights do not change it."""
    shell = "LC_ALL=C sha256sum * | sha256sum"
    says = subprocess.run(["/bin/sh", "-c", shell], cwd=whole, capture_output=True, text=True, check=True).stdout
    (whole / "README.md").write_text("a card", encoding="utf-8")
    (whole / "card.json").write_text("{}", encoding="utf-8")

    assert digest(whole)[0] == says.split()[0]
    assert of_folder(whole, FolderSource(folder="x")).sha256 == says.split()[0]


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_the_digest_tells_apart_what_differs(
    tmp_path_factory: pytest.TempPathFactory, one: bytes, other: bytes
) -> None:
    folders = [write_checkpoint(tmp_path_factory.mktemp("c") / "c", weights=weights) for weights in (one, other)]

    assert (digest(folders[0]) == digest(folders[1])) == (one == other)


def test_a_renamed_file_is_another_checkpoint(whole: Path) -> None:
    before = digest(whole)[0]
    (whole / "tokenizer.json").rename(whole / "vocab.json")

    assert digest(whole)[0] != before


def test_a_very_deep_document_is_refused_and_not_a_crash(whole: Path) -> None:
    (whole / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        check(whole)
