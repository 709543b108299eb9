"""The definition keeps what it promises: bounds bound, the sink and the newest stay, and all pages are all of it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sparse import reference
from models.sparse.budget import Pages
from tests.with_torch.sparse.caches import Shape, filled

PAGES = st.builds(
    lambda sink, recent, free: Pages(keep=sink + recent + free, sink=sink, recent=recent),
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(1, 8),
)


@given(count=st.integers(1, 60), pages=PAGES, seed=st.integers(0, 999))
def test_a_choice_holds_the_sink_the_newest_and_the_best_of_the_others(count: int, pages: Pages, seed: int) -> None:
    scores = torch.randn(count, generator=torch.Generator().manual_seed(seed)).round(decimals=1)  # with ties

    chosen = reference.choose(scores, pages).tolist()

    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, pages.keep)
    forced = {*range(min(count, pages.sink)), *range(max(0, count - pages.recent), count)}
    assert forced <= {*chosen}
    left, taken = {*range(count)} - {*chosen}, {*chosen} - forced
    assert not left or not taken or scores[[*left]].max() <= scores[[*taken]].min()


@given(tokens=st.integers(1, 50), page=st.sampled_from([16, 32]), seed=st.integers(0, 999))
def test_no_key_of_a_page_exceeds_what_its_bounds_promise(tokens: int, page: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    keys = torch.randn(tokens, 1, 8, generator=random)
    query = torch.randn(3, 8, generator=random)
    bounds = reference.empty_bounds(-(-tokens // page), 1, 8, torch.float32)

    reference.widen(bounds, keys, torch.arange(tokens), page)

    most = reference.scores(query, bounds[:, 0])
    met = (keys[:, 0] @ query.T).amax(-1)
    assert (met <= most.repeat_interleave(page)[:tokens] + 1e-4).all()


def test_bounds_do_not_depend_on_how_a_prompt_is_cut_into_chunks() -> None:
    keys = torch.randn(100, 2, 8)
    slots = torch.randperm(4).repeat_interleave(32)[:100] * 32 + torch.arange(100) % 32
    whole, cut = (torch.zeros(4, 2, 16) for _ in range(2))

    reference.widen(whole, keys, slots, 32)
    for part in torch.arange(100).split(13):
        reference.widen(cut, keys[part], slots[part], 32)

    assert torch.equal(whole, cut)


def test_a_page_with_a_new_owner_forgets_the_old_one() -> None:
    bounds = torch.zeros(1, 1, 16)
    reference.widen(bounds, torch.full((16, 1, 8), 100.0), torch.arange(16), 16)

    reference.widen(bounds, torch.full((1, 1, 8), 1.0), torch.tensor([0]), 16)

    assert bounds[0, 0].tolist() == [1.0] * 16


def test_a_rejected_guess_leaves_bounds_that_are_wider_and_true() -> None:
    bounds = torch.zeros(1, 1, 16)
    reference.widen(bounds, torch.zeros(4, 1, 8), torch.arange(4), 16)
    reference.widen(bounds, torch.full((2, 1, 8), 7.0), torch.tensor([4, 5]), 16)  # guessed, and rejected

    reference.widen(bounds, torch.full((1, 1, 8), -1.0), torch.tensor([4]), 16)

    assert bounds[0, 0, :8].tolist() == [7.0] * 8
    assert bounds[0, 0, 8:].tolist() == [-1.0] * 8


def test_a_token_without_a_slot_is_nowhere() -> None:
    bounds = torch.zeros(1, 1, 16)

    reference.widen(bounds, torch.full((1, 1, 8), 9.0), torch.tensor([-1]), 16)

    assert not bounds.any()


@settings(max_examples=20)
@given(
    layout=st.sampled_from([reference.TILES, reference.PLAIN]),
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_with_all_pages_it_is_attention_over_everything(layout: int, lengths: list[int], seed: int) -> None:
    case = filled(Shape(2, 3, 32, 64, 32, lengths, layout, seed=seed))

    output, read = case.decode(Pages(keep=20, sink=1, recent=1))

    assert (output - case.dense()).abs().max() < 2e-2  # what bfloat16 rounds off outputs of size 1 to 4
    assert (read >= 0).sum(-1).tolist() == [[-(-length // 32)] * 2 for length in lengths]
