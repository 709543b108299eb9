"""GPTQ, against rounding to the nearest and against the worst way to do the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compress.gptq import gptq, hessian_of, output_error
from models.compress.rounding import rounded
from models.job import JobFailed

TOLERANCE = 1 + 1e-5  # sums of thousands of products in single precision


def correlated(tokens: int, inputs: int, seed: int) -> torch.Tensor:
    """Inputs that foretell each other, as those of real matrices do: only then is there something to mend."""
    random = torch.Generator().manual_seed(seed)
    few = torch.randn(tokens, max(2, inputs // 8), generator=random)
    mixed = few @ torch.randn(few.shape[1], inputs, generator=random)
    return mixed + 0.1 * torch.randn(tokens, inputs, generator=random)


@given(seed=st.integers(0, 10_000), bits=st.sampled_from([3, 4]), group=st.sampled_from([32, None]))
@settings(max_examples=15)
def test_no_row_is_worse_than_its_rounding_on_the_calibration_text(seed: int, bits: int, group: int | None) -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(seed))
    hessian = hessian_of(correlated(200, 64, seed))

    made = output_error(weight, gptq(weight, hessian, bits, group, torch.float32), hessian)
    nearest = output_error(weight, rounded(weight, bits, group, torch.float32), hessian)

    assert (made <= nearest * TOLERANCE).all()


def test_it_mends_most_of_the_error_where_inputs_foretell_each_other() -> None:
    weight, hessian = torch.randn(32, 256), hessian_of(correlated(2000, 256, 1))

    made = output_error(weight, gptq(weight, hessian, 4, 64, torch.bfloat16), hessian).sum()
    nearest = output_error(weight, rounded(weight, 4, 64, torch.bfloat16), hessian).sum()

    assert made < 0.5 * nearest


def test_independent_inputs_leave_nothing_to_mend() -> None:
    """The Hessian is diagonal: then the nearest level is the best one."""
    weight = torch.randn(4, 64)

    made = gptq(weight, torch.eye(64), 4, 32, torch.float32)

    assert torch.equal(made.levels, rounded(weight, 4, 32, torch.float32).levels)


@pytest.mark.parametrize("dead", [0, 5, 63])
def test_an_input_that_is_always_zero_breaks_nothing(dead: int) -> None:
    inputs = correlated(100, 64, 3)
    inputs[:, dead] = 0

    made = gptq(torch.randn(4, 64), hessian_of(inputs), 4, 32, torch.float32)

    assert made.dense.isfinite().all()


def test_fewer_texts_than_inputs_break_nothing() -> None:
    """The Hessian has no inverse then; it is damped until it has."""
    made = gptq(torch.randn(4, 64), hessian_of(torch.randn(3, 64)), 4, 32, torch.float32)

    assert made.dense.isfinite().all()


def test_inputs_that_are_no_numbers_are_told() -> None:
    with pytest.raises(JobFailed, match="is no number"):
        gptq(torch.randn(4, 64), torch.full((64, 64), float("nan")), 4, 32, torch.float32)
