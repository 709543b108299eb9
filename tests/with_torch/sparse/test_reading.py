"""A text read in one pass is read as decode steps one by one would: the same pages for each, and the same words."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from models.sparse import reading, reference
from models.sparse.budget import PAGE_TOKENS, Budget

BUDGETS = st.builds(
    lambda page, sink, recent, free, below, more: Budget(
        budget_tokens=(-(-sink // page) + -(-(recent - 1) // page) + 1 + free) * page + more,
        sink_tokens=sink,
        recent_tokens=recent,
        page_tokens=page,
        dense_below_tokens=below,
    ),
    page=st.sampled_from(PAGE_TOKENS),
    sink=st.sampled_from([0, 1, 16, 40]),
    recent=st.integers(1, 100),
    free=st.integers(1, 4),
    below=st.integers(1, 900),
    more=st.integers(0, 15),
)


def one_by_one(query: torch.Tensor, key: torch.Tensor, budget: Budget, window: bool) -> torch.Tensor:
    """As `reading.seen`, with the definition asked for each token and KV head, and bounds of what was there by then."""
    (heads, tokens, _), (kv_heads, context, dim) = query.shape, key.shape
    page, group = budget.page_tokens, heads // kv_heads
    seen = torch.zeros(heads, tokens, context, dtype=torch.bool)
    for i in range(tokens):
        length = context - tokens + i + 1
        bounds = reference.empty_bounds(-(-length // page), kv_heads, dim, key.dtype)
        reference.widen(bounds, key[:, :length].transpose(0, 1), torch.arange(length), page)
        for head in range(kv_heads):
            mine = slice(head * group, (head + 1) * group)
            scores = torch.arange(len(bounds)) if window else reference.scores(query[mine, i], bounds[:, head])
            chosen = reference.choose(scores, budget.pages())
            if length < budget.threshold_tokens:
                chosen = torch.arange(len(bounds))
            positions = (chosen[:, None] * page + torch.arange(page)).flatten()
            seen[mine, i, positions[positions < length]] = True
    return seen


@settings(max_examples=150)
@given(
    budget=BUDGETS,
    context=st.integers(1, 800),
    tokens=st.integers(1, 12),
    group=st.integers(1, 3),
    window=st.booleans(),
    seed=st.integers(0, 999),
)
def test_each_token_of_each_head_reads_the_pages_of_the_definition(
    budget: Budget, context: int, tokens: int, group: int, window: bool, seed: int
) -> None:
    """Whole numbers, so that sums are exact in whatever order, and many pages tie."""
    random = torch.Generator().manual_seed(seed)
    tokens = min(tokens, context)
    query = torch.randint(-2, 3, (2 * group, tokens, 4), generator=random).float()
    key = torch.randint(-3, 4, (2, context, 4), generator=random).bfloat16()

    seen = reading.seen(query, key, budget, window=window)

    assert torch.equal(seen, one_by_one(query, key, budget, window))


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    made = LlamaForCausalLM(config).float().eval()
    reading.prepare(made)
    return made


BUDGET = Budget(96, sink_tokens=16, recent_tokens=20, page_tokens=16, dense_layers=1, dense_below_tokens=120)
SAME = 1e-4  # of log-probabilities, float32 summed in another order
IDS = torch.randint(0, 50, (301,), generator=torch.Generator().manual_seed(1))


def test_many_steps_in_one_pass_say_what_they_say_one_by_one(model: LlamaForCausalLM) -> None:
    """Across the threshold, too: the first of them are dense."""
    cache = reading.read(model, IDS[:110])
    together = reading.steps(model, cache, IDS[110:], BUDGET)

    reading.back_to(cache, 110)
    alone = torch.cat([reading.steps(model, cache, one[None], BUDGET) for one in IDS[110:]])

    assert (together - alone).abs().max() < SAME
    reading.back_to(cache, 110)
    assert (together - reading.steps(model, cache, IDS[110:])).abs().max() > 100 * SAME


def test_a_budget_that_covers_the_context_changes_nothing(model: LlamaForCausalLM) -> None:
    whole = model(IDS[None]).logits[0, 200:].float().log_softmax(-1)
    cache = reading.read(model, IDS[:200])

    covered = reading.steps(model, cache, IDS[200:], replace(BUDGET, budget_tokens=304, dense_below_tokens=1))

    assert (covered - whole).abs().max() < SAME
