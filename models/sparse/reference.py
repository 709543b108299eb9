"""What page-sparse attention is, in plain torch: the definition that the kernels are tested against.

For each page the highest and the lowest value of every dimension of its keys are kept, so that no query can meet a key
of the page with more than `scores` says (Tang et al. 2024, Quest, algorithm 1). A decode step reads the first pages
(the sink), the last ones and, of the others, those with the highest scores, chosen for each KV head by itself. Keys are
stored after the rotary embedding, so leaving pages out moves nothing. No vLLM here.
"""

from dataclasses import dataclass

import torch

from models.sparse.budget import Pages

TILES = 0  # vLLM's layout for AMX: see `unpacked`
PLAIN = 1


def empty_bounds(pages: int, kv_heads: int, dim: int, dtype: torch.dtype) -> torch.Tensor:
    """Bounds of pages that hold nothing, (pages, kv_heads, 2 * dim), of the keys' own type: so they are exact."""
    return torch.empty(pages, kv_heads, 2 * dim, dtype=dtype)


def widen(bounds: torch.Tensor, key: torch.Tensor, slots: torch.Tensor, page_tokens: int) -> None:
    """Let *bounds* hold *key* (tokens, kv_heads, dim), which lies at *slots* of the cache; negative: nowhere.

    A page is always filled from its first token on, so a key there says that the page has a new owner. A key that is
    later overwritten (a token that was guessed and rejected) leaves its page's bounds wider than they need be.
    """
    key, slots = key[slots >= 0], slots[slots >= 0]
    page, dim = slots // page_tokens, key.shape[-1]
    fresh = page[slots % page_tokens == 0]
    bounds[fresh, :, :dim] = -torch.inf
    bounds[fresh, :, dim:] = torch.inf
    index = page[:, None, None].expand(key.shape)
    bounds[..., :dim].scatter_reduce_(0, index, key, "amax")
    bounds[..., dim:].scatter_reduce_(0, index, key, "amin")


def scores(query: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """The most that a key of each page of *bounds* (pages, 2 * dim) can give any *query* head (group, dim): (pages)."""
    return most(query, bounds).amax(-1)


def most(query: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """The same for each query by itself: (..., queries, dim) and (..., pages, 2 * dim) give (..., pages, queries)."""
    halves = torch.cat([query.clamp(min=0), query.clamp(max=0)], -1).float()
    return bounds.float() @ halves.mT


def choose(scores: torch.Tensor, pages: Pages) -> torch.Tensor:
    """The pages to read of those that *scores* (all pages of the context) stand for, ascending; ties: the earlier."""
    count = scores.shape[0]
    if count <= pages.keep:
        return torch.arange(count)
    middle = scores[pages.sink : count - pages.recent]
    best = middle.argsort(descending=True, stable=True)[: pages.keep - pages.sink - pages.recent].sort().values
    return torch.cat([torch.arange(pages.sink), best + pages.sink, torch.arange(count - pages.recent, count)])


@dataclass(frozen=True, slots=True)
class Cache:
    """One layer's cache as vLLM's CPU backend keeps it, and the bounds of its pages."""

    blocks: torch.Tensor  # (blocks, kv_heads, block, 2 * dim): of each block and head first the keys, then the values
    bounds: torch.Tensor  # (blocks * block / page, kv_heads, 2 * dim)
    page_tokens: int
    layout: int

    @property
    def block_tokens(self) -> int:
        return int(self.blocks.shape[2])


def unpacked(cache: Cache, block: torch.Tensor, head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (len(block) * block_tokens, dim) of the blocks *block* of one head."""
    size, dim = cache.block_tokens, cache.blocks.shape[3] // 2
    both = cache.blocks[block, head].reshape(len(block), 2, size * dim)
    keys, values = both[:, 0], both[:, 1]
    if cache.layout == TILES:
        keys = keys.view(-1, size // 16, dim // 2, 16, 2).transpose(2, 3)
        values = values.view(-1, dim // 16, size // 2, 16, 2).permute(0, 2, 4, 1, 3)
    else:
        keys = keys.view(-1, dim, size).transpose(1, 2)
    return keys.reshape(-1, dim), values.reshape(-1, dim)


def decode(
    query: torch.Tensor,
    cache: Cache,
    table: torch.Tensor,
    tokens: torch.Tensor,
    requests: torch.Tensor,
    lengths: torch.Tensor,
    pages: Pages,
    scale: float,
    output: torch.Tensor,
) -> torch.Tensor:
    """Attend from the tokens *tokens* of *query* (all tokens, heads, dim) into *output*; the others are left alone.

    Token i belongs to the request in row requests[i] of the block *table* and sees the first lengths[i] tokens of it.
    Returns the pages read, (tokens, kv_heads, keep), -1 after the last.
    """
    kv_heads, group = cache.blocks.shape[1], query.shape[1] // cache.blocks.shape[1]
    size, page = cache.block_tokens, cache.page_tokens
    read = torch.full((len(tokens), kv_heads, pages.keep), -1, dtype=torch.int32)
    for i, (token, request, length) in enumerate(
        zip(tokens.tolist(), requests.tolist(), lengths.tolist(), strict=True)
    ):
        block = table[request, : -(-length // size)].long()
        page_ids = (block[:, None] * (size // page) + torch.arange(size // page)).flatten()[: -(-length // page)]
        for head in range(kv_heads):
            mine = slice(head * group, (head + 1) * group)
            chosen = choose(scores(query[token, mine], cache.bounds[page_ids, head]), pages)
            read[i, head, : len(chosen)] = chosen.int()
            positions = (chosen[:, None] * page + torch.arange(page)).flatten()
            positions = positions[positions < length]
            keys, values = unpacked(cache, block, head)
            logits = query[token, mine].float() @ keys[positions].float().T * scale
            output[token, mine] = (logits.softmax(-1) @ values[positions].float()).to(output.dtype)
    return read
