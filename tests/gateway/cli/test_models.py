"""`pointsman models`: the command that serves a row, and weights that are folders."""

import shlex
from pathlib import Path

import pytest
import yaml

from gateway.settings import load_settings
from models.checkpoint import of_folder
from models.weights import FolderSource
from tests.models.checkpoints import write_checkpoint
from tests.terminal import Terminal

GGUF_ROW = "smollm2-135m-instruct-q4_1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that the catalogue's row `small` names by where it lies."""
    made = write_checkpoint(tmp_path / "made")
    checkpoint = of_folder(made, FolderSource(folder=str(made))).model_dump(mode="json")
    row = {"name": "small", "engine": "vllm", "tier": 0, "context_tokens": 1000, "checkpoint": checkpoint}
    rows = [row, {**row, "name": "sleepy", "vllm": {"sleep_mode": True}}]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"models": rows}), encoding="utf-8")
    monkeypatch.setenv("POINTSMAN_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("POINTSMAN_MODELS", "small")
    monkeypatch.setenv("POINTSMAN_CACHE_DIR", str(tmp_path / "cache"))
    return made


def test_a_folder_is_pulled_listed_and_verified(terminal: Terminal, folder: Path) -> None:
    assert " no " in terminal.run("models", "list").out.splitlines()[1]
    pulled = terminal.run("models", "pull")
    assert pulled.code == 0, pulled.err
    [place] = (load_settings().cache_dir / "models" / "checkpoints").iterdir()
    assert str(place) in pulled.out.replace("\n", "")
    assert " yes " in terminal.run("models", "list").out.splitlines()[1]
    assert place.name in terminal.run("models", "verify", "small").out.replace("\n", "")


def test_a_folder_that_cannot_be_served_is_one_message(terminal: Terminal, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = terminal.run("models", "pull")

    assert said.code == 1
    assert "pytorch_model.bin is a pickle" in said.err
    assert "Traceback" not in said.err


def test_the_command_is_for_a_shell_and_starts_nothing(terminal: Terminal, folder: Path) -> None:
    said = terminal.run("models", "command", "small", "--hardware", "cpu", "--weights", "/models/it", "--port", "9000")
    words = shlex.split(said.out.replace("\\\n", ""))

    assert said.code == 0
    assert "VLLM_NO_USAGE_STATS=1" in words
    assert words[words.index("--model") + 1] == "/models/it"
    assert words[words.index("--port") + 1] == "9000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("small", "--hardware", "tpu"), "must be one of cpu, cuda"),
        (("nobody",), "no model nobody in the catalogue"),
        (("sleepy", "--hardware", "cpu"), "vllm.sleep_mode: does nothing on a processor"),
    ],
)
def test_what_has_no_command_is_one_message(
    terminal: Terminal, folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    said = terminal.run("models", "command", *arguments)

    assert said.code == 1
    assert told in said.err


def test_only_rows_of_vllm_have_a_command(terminal: Terminal) -> None:
    assert "engine llamacpp" in terminal.run("models", "command", GGUF_ROW).err


def test_doctor_says_that_a_served_model_needs_torch(
    terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POINTSMAN_TORCH_PYTHON", raising=False)
    said = terminal.run("doctor")

    assert said.code == 1
    assert "lack torch" in said.out
    assert "make torch" in said.out
