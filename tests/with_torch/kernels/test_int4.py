"""A product with 4-bit weights is the product with the weights they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels import int4

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPE = torch.bfloat16 if torch.cuda.is_available() else torch.float16  # the interpreter multiplies bits of bfloat16

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Triton's interpreter


@settings(max_examples=8)
@given(
    rows=st.integers(1, 70),
    outputs=st.integers(1, 80),
    groups=st.integers(1, 5),
    parts=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_the_product_is_that_of_the_weights_that_the_words_stand_for(
    rows: int, outputs: int, groups: int, parts: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(outputs, groups * int4.GROUP, generator=random).to(TYPE).to(DEVICE)
    inputs = torch.randn(rows, groups * int4.GROUP, generator=random).to(TYPE).to(DEVICE)
    words, scales = int4.quantise(weights)

    found = int4.product(inputs, words, scales, parts=parts)

    expected = inputs.float() @ int4.dequantise(words, scales).float().T
    assert float((found.float() - expected).abs().max()) < 1e-2 * float(expected.abs().max()) + 1e-2


def test_rounding_to_nearest_is_off_by_no_more_than_half_a_step() -> None:
    """But for the one end that four bits lack: the largest weight of a group may lie half a step above the highest."""
    weights = torch.randn(16, 2 * int4.GROUP)

    words, scales = int4.quantise(weights)

    off = (int4.dequantise(words, scales) - weights).abs().view(16, 2, -1) / scales[..., None]
    assert words.shape == (16, 2 * int4.GROUP // int4.PER_WORD)
    assert float(off.max()) <= 0.5 + 1e-4


def test_words_lie_as_compressed_tensors_has_them() -> None:
    """The first weight lowest, each plus 8."""
    weights = torch.zeros(1, int4.GROUP)
    weights[0, 0], weights[0, 1] = 7.5, -7.5

    words, scales = int4.quantise(weights)

    assert float(scales[0, 0]) == 1.0
    assert int(words[0, 0]) & 0xFFF == 0x80F  # 7 is the highest: 15, and -8 the lowest: 0; nothing is 8
