"""Rounding and packing, against plain references."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compress.rounding import Rounded, packed, rounded, unpacked

HALF_LEVEL = 0.5  # of a scale, and what the scale loses as a bfloat16 besides
BFLOAT16 = 2**-8


@given(
    rows=st.integers(1, 5), inputs=st.integers(1, 40), bits=st.sampled_from([2, 4, 8]), seed=st.integers(0, 2**31 - 1)
)
@settings(max_examples=100)
def test_what_is_packed_comes_out_again(rows: int, inputs: int, bits: int, seed: int) -> None:
    half = 2 ** (bits - 1)
    made = torch.randint(-half, half, (rows, inputs), generator=torch.Generator().manual_seed(seed)).to(torch.int8)

    words = packed(made, bits)

    assert words.dtype is torch.int32
    assert torch.equal(unpacked(words, bits, inputs), made)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it imports what torch has deprecated
def test_words_are_those_of_compressed_tensors() -> None:
    """Which vLLM reads: the reference is its own packing."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    for bits in (4, 8):
        levels = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (7, 70)).to(torch.int8)
        assert torch.equal(packed(levels, bits), pack_to_int32(levels, bits))


def test_a_rows_weights_are_within_half_a_level() -> None:
    weight = torch.randn(8, 96)

    made = rounded(weight, 8, None, torch.float32)

    assert ((made.dense - weight).abs() <= made.scales * HALF_LEVEL * (1 + 1e-5)).all()


def test_clipping_never_makes_a_group_worse() -> None:
    """The scale that clips nothing is among those that are tried."""
    weight = torch.randn(16, 128)
    groups = weight.unflatten(1, (-1, 32))
    scale = (groups.abs().amax(-1, keepdim=True) / 7.5).to(torch.bfloat16).float()
    plain = ((groups / scale).round().clamp(-8, 7) * scale).flatten(1)

    made = rounded(weight, 4, 32, torch.bfloat16)

    assert (made.dense - weight).square().sum() <= (plain - weight).square().sum()
    assert made.scales.shape == (16, 4)


def test_weights_of_zero_stay_zero() -> None:
    made = rounded(torch.zeros(2, 64), 4, 32, torch.bfloat16)

    assert torch.equal(made.dense, torch.zeros(2, 64))


def test_dense_is_levels_times_scales() -> None:
    made = Rounded(torch.tensor([[1, -2, 3, 4]], dtype=torch.int8), torch.tensor([[0.5, 2.0]]))

    assert made.dense.tolist() == [[0.5, -1.0, 6.0, 8.0]]
