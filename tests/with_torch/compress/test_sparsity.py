"""Which weights go, against counting and sorting by hand."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compress.sparsity import importance, pruned, pruned_by_pattern


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6), fours=st.integers(1, 10))
@settings(max_examples=50)
def test_two_of_four_neighbours_are_zero_and_the_others_as_they_were(seed: int, rows: int, fours: int) -> None:
    weight = torch.randn(rows, 4 * fours, generator=torch.Generator().manual_seed(seed))

    made = pruned_by_pattern(weight, importance(weight)).unflatten(1, (-1, 4))

    assert ((made == 0).sum(-1) == 2).all()
    kept = made != 0
    assert torch.equal(made[kept], weight.unflatten(1, (-1, 4))[kept])
    lost = weight.unflatten(1, (-1, 4)).abs().masked_fill(kept, 0).amax(-1)
    least_kept = made.abs().masked_fill(~kept, float("inf")).amin(-1)
    assert (lost <= least_kept).all()


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=30)
def test_wanda_is_magnitude_where_all_inputs_are_as_strong(seed: int, scale: float) -> None:
    weight = torch.randn(5, 32, generator=torch.Generator().manual_seed(seed))

    by_wanda = pruned(weight, importance(weight, torch.full((32,), scale)), 0.5)

    assert torch.equal(by_wanda, pruned(weight, importance(weight), 0.5))


def test_wanda_keeps_a_small_weight_of_a_strong_input() -> None:
    weight, norms = torch.tensor([[0.1, 1.0]]), torch.tensor([100.0, 1.0])

    assert pruned(weight, importance(weight, norms), 0.5).tolist() == [[weight[0, 0].item(), 0.0]]


def test_each_row_loses_the_same_share() -> None:
    weight = torch.cat([torch.randn(1, 40), 100 * torch.randn(1, 40)])

    assert (pruned(weight, importance(weight), 0.25) == 0).sum(1).tolist() == [10, 10]
