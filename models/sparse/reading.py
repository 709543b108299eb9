"""A text read by transformers as decode steps by pages would read it: many tokens in one pass, for measuring what pages
left out cost. Nothing is served by it.

A prefix is read densely, as a server's prefill does; of what follows each token reads the pages that `reference.choose`
gives it, for each KV head by itself.
"""

from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from models.sparse import reference
from models.sparse.budget import Budget

NAME = "by_pages"  # of this attention, as transformers knows it
CHUNK_TOKENS = 1024  # of a prefix, read at once


def prepare(model: Any) -> None:
    """Let *model*, of transformers, heed what `steps` asks for. Dense it computes what it did before, by SDPA."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


@torch.inference_mode()
def read(model: Any, ids: torch.Tensor) -> DynamicCache:
    """What is left of reading *ids* (tokens,) densely."""
    cache = DynamicCache()
    for part in ids.split(CHUNK_TOKENS):
        model(part[None], past_key_values=cache, logits_to_keep=1)
    return cache


@torch.inference_mode()
def steps(
    model: Any, cache: DynamicCache, ids: torch.Tensor, budget: Budget | None = None, *, window: bool = False
) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) of what follows each of *ids* (tokens,), read under *budget*; None: all.

    *cache* is left longer. `window`: see `seen`. The model must be one that `prepare` was given.
    """
    logits = model(ids[None], past_key_values=cache, budget=budget, window=window).logits[0]
    return logits.float().log_softmax(-1)


def back_to(cache: DynamicCache, tokens: int) -> None:
    """Forget what lies behind the first *tokens*."""
    if (longer := cache.get_seq_length() - tokens) > 0:
        cache.crop(-longer)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    budget: Budget | None = None,
    window: bool = False,
    **rest: Any,
) -> Any:
    """What transformers calls in each layer: query (1, heads, tokens, dim), key, value (1, kv_heads, context, dim)."""
    if budget is None or module.layer_idx < budget.dense_layers or key.shape[2] < budget.threshold_tokens:
        mask = attention_mask
    else:
        mask = seen(query[0], key[0], budget, window=window)[None]
    return sdpa_attention_forward(module, query, key, value, mask, **rest)


def seen(query: torch.Tensor, key: torch.Tensor, budget: Budget, *, window: bool = False) -> torch.Tensor:
    """Which positions the last tokens of a context read, (heads, tokens, context), as a mask.

    query (heads, tokens, dim), key (kv_heads, context, dim). A token whose own context is below the budget's threshold
    reads all of it. `window`: the sink and as many of the newest pages as the budget holds, whatever is asked.
    """
    (heads, tokens, _), (kv_heads, context, _) = query.shape, key.shape
    page, pages = budget.page_tokens, budget.pages()
    position = torch.arange(context - tokens, context)[:, None]
    number, there = torch.arange(-(-context // page)), position // page + 1  # pages, and how many each token has
    scores = number.float().expand(kv_heads, tokens, -1) if window else _scores(query, key, page)
    forced = (number < pages.sink) | (number >= there - pages.recent)
    scores = scores.masked_fill(forced, torch.inf).masked_fill(number >= there, -torch.inf)
    best = scores.argsort(descending=True, stable=True)[..., : pages.keep]
    chosen = torch.zeros(scores.shape, dtype=torch.bool).scatter_(-1, best, True)
    reads = chosen.repeat_interleave(page, -1)[..., :context] | (position + 1 < budget.threshold_tokens)
    return (reads & (torch.arange(context) <= position)).repeat_interleave(heads // kv_heads, 0)


def _scores(query: torch.Tensor, key: torch.Tensor, page_tokens: int) -> torch.Tensor:
    """`reference.scores` of every page for every token and KV head, (kv_heads, tokens, pages).

    A page that a token sees in part is bounded with keys behind the token; it is the token's newest, and always read.
    """
    (kv_heads, context, _), tokens = key.shape, query.shape[1]
    filled = torch.cat([key, key[:, -1:].expand(-1, -context % page_tokens, -1)], 1).unflatten(1, (-1, page_tokens))
    bounds = torch.cat([filled.amax(2), filled.amin(2)], -1)  # what `reference.widen` makes of a whole context
    grouped = query.unflatten(0, (kv_heads, -1)).transpose(1, 2)  # (kv_heads, tokens, group, dim)
    most = reference.most(grouped.flatten(1, 2), bounds)  # (kv_heads, pages, tokens * group)
    return most.unflatten(-1, (tokens, -1)).amax(-1).transpose(1, 2)
