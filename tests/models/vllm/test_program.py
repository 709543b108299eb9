"""vLLM and transformers as programs: what starts them for a row, or why nothing can."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.catalog import Model
from models.checkpoint import of_folder
from models.checkpoint_store import CheckpointStore
from models.process import CannotLaunch, Program
from models.store import ModelStore
from models.transformers import program as of_transformers
from models.transformers.program import Transformers
from models.vllm import program as of_vllm
from models.vllm.hardware import TYPICAL
from models.vllm.program import Vllm, hardware_of
from models.weights import FolderSource
from tests.models.checkpoints import safetensors, write_checkpoint

PYTHON = Path("/torch/bin/python")


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(ModelStore(tmp_path / "store"))


@pytest.fixture(autouse=True)
def _a_machine_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in (of_vllm, of_transformers):
        monkeypatch.setattr(program, "torch_python", lambda modules, named: PYTHON)
    monkeypatch.setattr(of_vllm, "find_hardware", lambda: TYPICAL["cpu"])


def row(folder: Path, **fields: Any) -> Model:
    checkpoint = of_folder(folder, FolderSource(folder=str(folder)))
    given = {"name": "m", "engine": "vllm", "tier": 0, "context_tokens": 100, "checkpoint": checkpoint.model_dump()}
    return Model.model_validate({**given, **fields})


def programs(model: Model, store: CheckpointStore) -> list[Program]:
    return [Vllm(model, store, None), Transformers(model.model_copy(update={"engine": "transformers"}), store, None)]


def test_they_run_in_the_python_that_has_torch_on_the_stores_folder(store: CheckpointStore, tmp_path: Path) -> None:
    model = row(write_checkpoint(tmp_path / "made"))
    assert model.checkpoint is not None
    place = str(store.pull(model.checkpoint))
    vllm, transformers = (program.launch("key") for program in programs(model, store))

    assert vllm.command[0] == sys.executable
    assert vllm.settings["argv"][0] == str(PYTHON)
    assert vllm.settings["argv"][vllm.settings["argv"].index("--port") + 1] == "PORT"
    assert vllm.settings["environment"]["VLLM_API_KEY"] == "key"
    assert place in vllm.settings["argv"]
    assert transformers.command[0] == str(PYTHON)
    assert transformers.settings["folder"] == place
    for launch in (vllm, transformers):
        assert "key" not in launch.command
        json.dumps(launch.settings)


def test_a_checkpoint_that_is_not_here_is_told_with_the_way_to_get_it(store: CheckpointStore, tmp_path: Path) -> None:
    for program in programs(row(write_checkpoint(tmp_path / "made")), store):
        with pytest.raises(CannotLaunch, match=r"is missing; get it with: pointsman models pull m"):
            program.launch("key")


def test_a_file_that_was_damaged_in_the_store_is_told_before_anything_is_loaded(
    store: CheckpointStore, tmp_path: Path
) -> None:
    model = row(write_checkpoint(tmp_path / "made"))
    assert model.checkpoint is not None
    weights = store.pull(model.checkpoint) / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    for program in programs(model, store):
        with pytest.raises(CannotLaunch, match="no safetensors file"):
            program.launch("key")


def test_bits_are_not_taken_twice(store: CheckpointStore, tmp_path: Path) -> None:
    packed = write_checkpoint(tmp_path / "made", quantization_config={"quant_method": "compressed-tensors"})
    model = row(packed, numerics={"quantization": "nf4"})
    assert model.checkpoint is not None
    store.pull(model.checkpoint)
    for program in programs(model, store):
        with pytest.raises(CannotLaunch, match="quantised already, by compressed-tensors; remove it"):
            program.launch("key")


def test_a_loras_rank_is_read_from_it(store: CheckpointStore, tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_model.safetensors").write_bytes(safetensors())
    (lora / "adapter_config.json").write_text('{"r": 20}', encoding="utf-8")
    adapter = of_folder(lora, FolderSource(folder=str(lora)))
    model = row(write_checkpoint(tmp_path / "made"), adapter=adapter.model_dump())
    for checkpoint in model.checkpoints:
        store.pull(checkpoint, chats=False)
    argv = Vllm(model, store, None).launch("key").settings["argv"]

    assert argv[argv.index("--max-lora-rank") + 1] == "32"
    assert argv[argv.index("--lora-modules") + 1] == f"m={store.path(adapter)}"


@pytest.mark.parametrize(("for_processors", "platform"), [(True, "cpu"), (False, "cuda")])
def test_the_build_for_processors_leaves_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, for_processors: bool, platform: str
) -> None:
    monkeypatch.setattr(of_vllm, "find_hardware", lambda: replace(TYPICAL["cuda"]))
    monkeypatch.setattr(of_vllm, "has_distribution", lambda python, name: for_processors)

    assert hardware_of(PYTHON).platform == platform
