"""What the backend does not serve it names, with a remedy; and which tokens of a step it reads by pages."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.sparse import native, reference
from models.sparse.budget import Budget, SparseRefused

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM imports what is deprecated
    from vllm.v1.attention.backend import AttentionType

    from models.sparse import backend

BUDGET = Budget(1024)
ENGINE = {
    "kv_transfer_config": None,
    "parallel_config": SimpleNamespace(decode_context_parallel_size=1),
}
LAYER = {
    "attn_type": AttentionType.DECODER,
    "sliding_window": -1,
    "is_fp8_kv_cache": False,
    "kv_cache_dtype": "auto",
    "alibi_slopes": None,
    "logits_soft_cap": 0,
    "sinks": None,
    "kv_sharing_target_layer_name": None,
}


def test_an_ordinary_engine_and_layer_are_served() -> None:
    backend.check_engine(SimpleNamespace(**ENGINE), "amx", 128, 128, BUDGET)
    backend.check_layer(SimpleNamespace(**LAYER))


@pytest.mark.parametrize(
    ("engine", "isa", "block", "dim", "words"),
    [
        ({"kv_transfer_config": object()}, "amx", 128, 128, "a KV connector"),
        ({"parallel_config": SimpleNamespace(decode_context_parallel_size=2)}, "amx", 128, 128, "spread over workers"),
        ({}, "neon", 128, 128, "layout on this processor \\(neon\\)"),
        ({}, "vec", 16, 128, "blocks of 16 tokens do not hold pages of 32; see --block-size"),
        ({}, "vec", 32, 512, "heads of 512 dimensions"),
    ],
)
def test_an_engine_that_it_cannot_serve_is_refused(
    engine: dict[str, Any], isa: str, block: int, dim: int, words: str
) -> None:
    with pytest.raises(SparseRefused, match=words) as refused:
        backend.check_engine(SimpleNamespace(**{**ENGINE, **engine}), isa, block, dim, BUDGET)

    assert "Unset POINTSMAN_SPARSE_BUDGET_TOKENS to serve it dense" in str(refused.value)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"attn_type": AttentionType.ENCODER}, "attention of the kind encoder"),
        ({"sliding_window": 4095}, "a sliding window"),
        ({"is_fp8_kv_cache": True, "kv_cache_dtype": "fp8"}, "of the type fp8; leave --kv-cache-dtype at auto"),
        ({"alibi_slopes": torch.ones(4)}, "biases"),
        ({"logits_soft_cap": 50.0}, "a soft cap"),
        ({"sinks": torch.ones(4)}, "learned sinks"),
        ({"kv_sharing_target_layer_name": "model.layers.1"}, "another layer's cache"),
    ],
)
def test_a_layer_that_it_cannot_serve_is_refused(layer: dict[str, Any], words: str) -> None:
    with pytest.raises(SparseRefused, match=words):
        backend.check_layer(SimpleNamespace(**{**LAYER, **layer}))


def test_latent_attention_is_refused_where_vllm_looks_for_it() -> None:
    with pytest.raises(SparseRefused, match="latent"):
        backend.LatentRefused.get_impl_cls()


def test_each_guessed_token_sees_the_context_up_to_itself() -> None:
    """Three requests of 1, 3 and 2 tokens, of which the second and the third are read by pages."""
    work = backend.work_of(
        torch.tensor([False, True, True]), torch.tensor([0, 1, 4, 6]), torch.tensor([9000, 5000, 7000])
    )

    assert work.tokens.tolist() == [1, 2, 3, 4, 5]
    assert work.requests.tolist() == [1, 1, 1, 2, 2]
    assert work.lengths.tolist() == [4998, 4999, 5000, 6999, 7000]
    assert {tensor.dtype for tensor in (work.tokens, work.requests, work.lengths)} == {torch.int32}


def test_without_a_compiler_the_definition_itself_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise native.NotBuilt("there is no C++ compiler")

    monkeypatch.setattr(native, "library", fails)

    _, decode = backend.kernels()

    assert decode is reference.decode
