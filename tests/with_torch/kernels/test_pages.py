"""Page-sparse decode on a GPU is what the definition says, on one or in Triton's interpreter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels import pages as kernel
from models.sparse import reference
from models.sparse.budget import Pages

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPE = torch.bfloat16 if torch.cuda.is_available() else torch.float16  # the interpreter multiplies bits of bfloat16
ROUNDING = 3e-2  # of bfloat16, for outputs of size 1 to 4

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Triton's interpreter


def made(seed: int, kv_heads: int, group: int, dim: int, page: int, lengths: list[int]) -> tuple[
    torch.Tensor, kernel.Cache, torch.Tensor, torch.Tensor
]:  # fmt: skip
    """Query, cache (NaN where nothing is written), block table and lengths."""
    random = torch.Generator().manual_seed(seed)
    counts = [-(-length // page) for length in lengths]
    order = torch.randperm(sum(counts) + 1, generator=random).int()
    table = torch.zeros(len(lengths), max(counts), dtype=torch.int32)
    shape = (sum(counts) + 1, page, kv_heads, dim)
    keys, values = (torch.full(shape, torch.nan, dtype=TYPE) for _ in range(2))
    bounds = torch.full((shape[0], kv_heads, 2 * dim), torch.nan, dtype=TYPE)
    taken = 0
    filled = []
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        table[row, :count] = order[taken : taken + count]
        taken += count
        for i, block in enumerate(table[row, :count].tolist()):
            here = min(page, length - i * page)
            filled.append((block, here))
            keys[block, :here] = torch.randn(here, kv_heads, dim, generator=random).to(TYPE)
            values[block, :here] = torch.randn(here, kv_heads, dim, generator=random).to(TYPE)
    query = torch.randn(len(lengths), kv_heads * group, dim, generator=random).to(TYPE)
    cache = kernel.Cache(keys.to(DEVICE), values.to(DEVICE), bounds.to(DEVICE))
    blocks, held = torch.tensor(filled, dtype=torch.int32).T.contiguous().to(DEVICE)
    kernel.bound(cache, blocks, held)
    return query.to(DEVICE), cache, table.to(DEVICE), torch.tensor(lengths, dtype=torch.int32).to(DEVICE)


def told(
    query: torch.Tensor, cache: kernel.Cache, table: torch.Tensor, lengths: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Attention over the tokens of the *chosen* pages, in 32 bits."""
    group = query.shape[1] // chosen.shape[1]
    output = torch.zeros_like(query, dtype=torch.float32)
    for i, length in enumerate(lengths.tolist()):
        for head in range(chosen.shape[1]):
            page = torch.tensor([p for p in chosen[i, head].tolist() if p * cache.page_tokens < length])
            position = (page[:, None] * cache.page_tokens + torch.arange(cache.page_tokens)).flatten()
            block = table[i].cpu()[position // cache.page_tokens].long()
            at = position % cache.page_tokens
            seen = position < length
            keys, values = (x.cpu()[block[seen], at[seen], head].float() for x in (cache.keys, cache.values))
            mine = slice(head * group, (head + 1) * group)
            logits = query[i, mine].cpu().float() @ keys.T * query.shape[-1] ** -0.5
            output[i, mine] = (logits.softmax(-1) @ values).to(DEVICE)
    return output


@settings(max_examples=8)
@given(
    seed=st.integers(0, 999),
    group=st.integers(1, 7),
    page=st.sampled_from([16, 32]),
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=3),
    sink=st.integers(0, 1),
    recent=st.integers(1, 2),
    free=st.integers(1, 9),
)
def test_a_step_is_what_the_definition_says(
    seed: int, group: int, page: int, lengths: list[int], sink: int, recent: int, free: int
) -> None:
    query, cache, table, seen = made(seed, 2, group, 32, page, lengths)
    pages = Pages(sink + recent + free, sink, recent)

    scores = kernel.scores(query, cache, table, seen, pages)
    chosen = kernel.choose(scores, pages.keep)
    output = kernel.attend(query, cache, table, seen, chosen, query.shape[-1] ** -0.5)

    assert float((output.float() - told(query, cache, table, seen, chosen)).abs().max()) < ROUNDING
    for i, length in enumerate(lengths):
        count = -(-length // page)
        for head in range(2):
            mine = query[i, head * group : (head + 1) * group]
            expected = reference.scores(mine, cache.bounds[table[i, :count].long(), head])
            kept = {p for p in chosen[i, head].tolist() if p < count}
            free_pages = slice(sink, max(sink, count - recent))
            assert torch.allclose(scores[i, head, :count][free_pages], expected[free_pages], rtol=1e-3, atol=1e-2)
            assert len(kept) == min(count, pages.keep)
            assert {*range(min(count, sink)), *range(max(0, count - recent), count)} <= kept


def test_with_all_pages_it_is_attention_over_everything() -> None:
    query, cache, table, lengths = made(1, 2, 3, 64, 16, [300, 17, 1])
    every = torch.arange(table.shape[1], dtype=torch.int32).expand(3, 2, -1)

    output = kernel.decode(query, cache, table, lengths, Pages(table.shape[1], 1, 1), 64**-0.5)

    assert float((output.float() - told(query, cache, table, lengths, every)).abs().max()) < ROUNDING


def test_bounds_are_those_of_the_keys_that_count() -> None:
    """A page's rest, which may hold the keys of another request or of a rejected guess, widens nothing."""
    _, cache, _, _ = made(2, 2, 1, 32, 16, [16])
    page = torch.tensor([0], dtype=torch.int32, device=DEVICE)
    cache.keys[0, 9:] = 1e4

    kernel.bound(cache, page, torch.tensor([9], dtype=torch.int32, device=DEVICE))

    assert torch.equal(cache.bounds[0, :, :32], cache.keys[0, :9].amax(0))
    assert torch.equal(cache.bounds[0, :, 32:], cache.keys[0, :9].amin(0))
