"""Page-sparse decode attention on a GPU: bounds of pages, their scores, attention over those that were chosen.

The same as `models.sparse.reference` says, for a cache of keys (blocks, block, kv_heads, dim) and values of that shape
whose pages are its blocks. Shapes do not depend on what is in the tensors, so a step can be captured in a CUDA graph:
contexts are padded to the width of the block table and the choice to its budget.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from models.sparse.budget import Pages

SCORED_PAGES = 64  # by one program
READ_TOKENS = 64  # in one step of a program; a multiple of the page
PARTS = 16  # most programs that share one (request, KV head)
LEAST_ROWS = 16  # tensor cores multiply no fewer
FORCED = tl.constexpr(3.0e38)  # the score of a page that is always kept
ABSENT = tl.constexpr(-3.0e38)  # and of one behind the end


@triton.jit
def _bounds(
    keys: Any, bounds: Any, pages: Any, filled: Any,
    key_block: tl.constexpr, key_token: tl.constexpr, key_head: tl.constexpr,
    KV_HEADS: tl.constexpr, DIM: tl.constexpr, PAGE: tl.constexpr,
) -> None:  # fmt: skip
    page, head = tl.load(pages + tl.program_id(0)).to(tl.int64), tl.program_id(1)
    token, dim = tl.arange(0, PAGE)[:, None], tl.arange(0, DIM)[None, :]
    written = token < tl.load(filled + tl.program_id(0))
    key = tl.load(keys + page * key_block + token * key_token + head * key_head + dim, mask=written, other=0.0)
    key = key.to(tl.float32)
    into = bounds + (page * KV_HEADS + head) * 2 * DIM + tl.arange(0, DIM)
    tl.store(into, tl.max(tl.where(written, key, float("-inf")), 0))
    tl.store(into + DIM, tl.min(tl.where(written, key, float("inf")), 0))


@triton.jit
def _scores(
    query: Any, bounds: Any, table: Any, lengths: Any, scores: Any, table_row: Any, width: Any,
    SINK: tl.constexpr, RECENT: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    DIM: tl.constexpr, PAGE: tl.constexpr, SCORED: tl.constexpr,
) -> None:  # fmt: skip
    request, head = tl.program_id(0), tl.program_id(1)
    page = tl.program_id(2) * SCORED + tl.arange(0, SCORED)
    count = (tl.load(lengths + request) + PAGE - 1) // PAGE
    row, dim = tl.arange(0, ROWS), tl.arange(0, DIM)
    at = (request * KV_HEADS + head) * GROUP + row
    asked = tl.load(query + at[:, None] * DIM + dim[None, :], mask=(row < GROUP)[:, None], other=0.0)
    block = tl.load(table + request * table_row + page, mask=page < count, other=0).to(tl.int64)
    high_at = bounds + (block * KV_HEADS + head)[None, :] * 2 * DIM + dim[:, None]
    high = tl.load(high_at, mask=(page < count)[None, :], other=0.0)
    low = tl.load(high_at + DIM, mask=(page < count)[None, :], other=0.0)
    positive = tl.maximum(asked.to(tl.float32), 0.0).to(high.dtype)
    negative = tl.minimum(asked.to(tl.float32), 0.0).to(high.dtype)
    found = tl.dot(positive, high) + tl.dot(negative, low)
    best = tl.max(tl.where((row < GROUP)[:, None], found, float("-inf")), 0)
    best = tl.where((page < SINK) | (page >= count - RECENT), FORCED, best)
    best = tl.where(page < count, best, ABSENT)
    tl.store(scores + (request * KV_HEADS + head) * width + page, best, mask=page < width)


@triton.jit
def _attend(
    query: Any, keys: Any, values: Any, table: Any, lengths: Any, chosen: Any, sums: Any, tops: Any, totals: Any,
    table_row: Any, scale: Any, key_block: tl.constexpr, key_token: tl.constexpr, key_head: tl.constexpr,
    KEEP: tl.constexpr, PER_PART: tl.constexpr, PARTS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
    ROWS: tl.constexpr, DIM: tl.constexpr, PAGE: tl.constexpr, TOKENS: tl.constexpr,
) -> None:  # fmt: skip
    request, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    unit = request * KV_HEADS + head
    length = tl.load(lengths + request)
    row, dim, token = tl.arange(0, ROWS), tl.arange(0, DIM), tl.arange(0, TOKENS)
    asked = tl.load(query + (unit * GROUP + row)[:, None] * DIM + dim[None, :], mask=(row < GROUP)[:, None], other=0.0)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, DIM], tl.float32)
    for start in range(0, PER_PART, TOKENS // PAGE):
        place = start + token // PAGE
        slot = part * PER_PART + place
        is_page = (place < PER_PART) & (slot < KEEP)
        page = tl.load(chosen + unit * KEEP + slot, mask=is_page, other=0)
        position = page * PAGE + token % PAGE
        seen = is_page & (position < length)
        block = tl.load(table + request * table_row + page, mask=seen, other=0).to(tl.int64)
        at = block * key_block + (token % PAGE) * key_token + head * key_head
        key = tl.load(keys + at[None, :] + dim[:, None], mask=seen[None, :], other=0.0)
        logits = tl.where(seen[None, :], tl.dot(asked, key) * scale, float("-inf"))
        new_top = tl.maximum(top, tl.max(logits, 1))
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)  # a part may hold nothing at all
        weights = tl.exp(logits - safe[:, None])
        shrink = tl.exp(top - safe)
        value = tl.load(values + at[:, None] + dim[None, :], mask=seen[:, None], other=0.0)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(value.dtype), value)
        top = new_top
    into = (unit * PARTS + part) * ROWS + row
    tl.store(tops + into, top)
    tl.store(totals + into, total)
    tl.store(sums + into[:, None] * DIM + dim[None, :], mixed)


@triton.jit
def _merge(
    sums: Any, tops: Any, totals: Any, output: Any,
    PARTS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr,
) -> None:  # fmt: skip
    unit, row = tl.program_id(0), tl.program_id(1)
    part, dim = tl.arange(0, PARTS), tl.arange(0, DIM)
    at = (unit * PARTS + part) * ROWS + row
    top = tl.load(tops + at)
    weight = tl.exp(top - tl.max(top, 0))
    total = tl.sum(weight * tl.load(totals + at), 0)
    mixed = tl.sum(weight[:, None] * tl.load(sums + at[:, None] * DIM + dim[None, :]), 0)
    tl.store(output + (unit * GROUP + row) * DIM + dim, mixed / total)


@dataclass(frozen=True, slots=True)
class Cache:
    """One layer's cache; keys and values have the same strides, and a head's numbers lie next to each other."""

    keys: torch.Tensor  # (blocks, page, kv_heads, dim)
    values: torch.Tensor
    bounds: torch.Tensor  # (blocks, kv_heads, 2 * dim)

    @property
    def page_tokens(self) -> int:
        return int(self.keys.shape[1])

    @property
    def strides(self) -> tuple[int, int, int]:
        block, token, head, one = self.keys.stride()
        assert one == 1
        assert self.values.stride() == self.keys.stride()
        return block, token, head


def bound(cache: Cache, pages: torch.Tensor, filled: torch.Tensor) -> None:
    """Take the bounds of *pages* from their first *filled* keys: exact whatever was written, rejected or reused."""
    kv_heads, dim = cache.keys.shape[2:]
    assert pages.is_contiguous()
    assert filled.is_contiguous()
    _bounds[(len(pages), kv_heads)](
        cache.keys, cache.bounds, pages, filled, *cache.strides, KV_HEADS=kv_heads, DIM=dim, PAGE=cache.page_tokens
    )


def scores(query: torch.Tensor, cache: Cache, table: torch.Tensor, lengths: torch.Tensor, pages: Pages) -> torch.Tensor:
    """Of each page of each context, (requests, kv_heads, width of the table); query is (requests, heads, dim)."""
    requests, heads, dim = query.shape
    kv_heads, width = cache.keys.shape[2], table.shape[1]
    assert query.is_contiguous()
    found = torch.empty(requests, kv_heads, width, dtype=torch.float32, device=query.device)
    _scores[(requests, kv_heads, triton.cdiv(width, SCORED_PAGES))](
        query, cache.bounds, table, lengths, found, table.stride(0), width, SINK=pages.sink, RECENT=pages.recent,
        KV_HEADS=kv_heads, GROUP=heads // kv_heads, ROWS=_rows(heads // kv_heads), DIM=dim, PAGE=cache.page_tokens,
        SCORED=SCORED_PAGES,
    )  # fmt: skip
    return found


def choose(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """The *keep* best pages, (requests, kv_heads, keep), in no order; some lie behind the end of a short context."""
    return scores.topk(min(keep, scores.shape[-1]), dim=-1, sorted=False).indices.int()


def attend(
    query: torch.Tensor, cache: Cache, table: torch.Tensor, lengths: torch.Tensor, chosen: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of one token a request over its *chosen* pages, (requests, heads, dim)."""
    requests, heads, dim = query.shape
    kv_heads, keep = chosen.shape[1:]
    assert query.is_contiguous()
    assert chosen.is_contiguous()
    group, page = heads // kv_heads, cache.page_tokens
    rows, tokens = _rows(group), max(READ_TOKENS, page)
    per_part = max(tokens // page, triton.next_power_of_2(triton.cdiv(keep, PARTS)))
    parts = triton.next_power_of_2(triton.cdiv(keep, per_part))
    units = requests * kv_heads
    sums = torch.empty(units, parts, rows, dim, dtype=torch.float32, device=query.device)
    tops, totals = (torch.empty(units, parts, rows, dtype=torch.float32, device=query.device) for _ in range(2))
    output = torch.empty_like(query)
    _attend[(requests, kv_heads, parts)](
        query, cache.keys, cache.values, table, lengths, chosen, sums, tops, totals, table.stride(0), scale,
        *cache.strides, KEEP=keep, PER_PART=per_part, PARTS=parts, KV_HEADS=kv_heads, GROUP=group, ROWS=rows, DIM=dim,
        PAGE=page, TOKENS=tokens,
    )  # fmt: skip
    _merge[(units, group)](sums, tops, totals, output, PARTS=parts, GROUP=group, ROWS=rows, DIM=dim)
    return output


def decode(
    query: torch.Tensor, cache: Cache, table: torch.Tensor, lengths: torch.Tensor, pages: Pages, scale: float
) -> torch.Tensor:
    """Score, choose, attend: one step of one layer. query is (requests, heads, dim) and contiguous."""
    return attend(query, cache, table, lengths, choose(scores(query, cache, table, lengths, pages), pages.keep), scale)


def _rows(group: int) -> int:
    return max(LEAST_ROWS, triton.next_power_of_2(group))
