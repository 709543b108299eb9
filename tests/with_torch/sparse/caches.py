"""Caches as vLLM's CPU backend would have filled them, made here with what is not yet written left as NaN."""

from dataclasses import dataclass

import torch

from models.sparse import reference
from models.sparse.budget import Pages
from models.sparse.reference import PLAIN, TILES, Cache


@dataclass(frozen=True, slots=True)
class Shape:
    """What a cache is made for: one request for each of *lengths*."""

    kv_heads: int
    group: int
    dim: int
    block_tokens: int
    page_tokens: int
    lengths: list[int]
    layout: int = PLAIN
    dtype: torch.dtype = torch.bfloat16
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Filled:
    cache: Cache
    table: torch.Tensor
    query: torch.Tensor  # one token a request
    keys: list[torch.Tensor]  # of each request (length, kv_heads, dim)
    values: list[torch.Tensor]
    lengths: torch.Tensor

    def decode(self, pages: Pages, decode: object = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What `decode` (`reference.decode` when not given) says: the output and the pages read."""
        output = torch.zeros_like(self.query)
        rows = torch.arange(len(self.lengths), dtype=torch.int32)
        call = reference.decode if decode is None else decode
        read = call(  # type: ignore[operator]  # one of two functions of one signature
            self.query, self.cache, self.table, rows, rows, self.lengths, pages, self.scale, output
        )
        return output.float(), read

    def dense(self) -> torch.Tensor:
        """Attention over everything, in 32 bits, without pages."""
        outputs = []
        group = self.query.shape[1] // self.keys[0].shape[1]
        for query, keys, values in zip(self.query, self.keys, self.values, strict=True):
            k, v = (x.float().repeat_interleave(group, 1).transpose(0, 1) for x in (keys, values))
            weights = (query.float()[:, None] @ k.transpose(1, 2) * self.scale).softmax(-1)
            outputs.append((weights @ v)[:, 0])
        return torch.stack(outputs)

    @property
    def scale(self) -> float:
        return float(self.query.shape[-1] ** -0.5)


def filled(shape: Shape) -> Filled:
    random = torch.Generator().manual_seed(shape.seed)
    blocks_of = [-(-length // shape.block_tokens) for length in shape.lengths]
    total = sum(blocks_of) + 1
    order = torch.randperm(total, generator=random).int()
    table = torch.zeros(len(blocks_of), max(blocks_of), dtype=torch.int32)
    blocks = torch.full((total, shape.kv_heads, shape.block_tokens, 2 * shape.dim), torch.nan, dtype=shape.dtype)
    bounds = reference.empty_bounds(
        total * shape.block_tokens // shape.page_tokens, shape.kv_heads, shape.dim, blocks.dtype
    )
    bounds.fill_(torch.nan)
    cache = Cache(blocks, bounds, shape.page_tokens, shape.layout)
    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    taken = 0
    for row, (length, count) in enumerate(zip(shape.lengths, blocks_of, strict=True)):
        table[row, :count] = order[taken : taken + count]
        taken += count
        for into in (keys, values):
            into.append(torch.randn(length, shape.kv_heads, shape.dim, generator=random).to(shape.dtype))
        slots = slots_of(table[row], torch.arange(length), shape.block_tokens)
        write(cache, keys[-1], values[-1], slots)
        reference.widen(bounds, keys[-1], slots, shape.page_tokens)
    query = torch.randn(len(blocks_of), shape.kv_heads * shape.group, shape.dim, generator=random).to(shape.dtype)
    return Filled(cache, table, query, keys, values, torch.tensor(shape.lengths, dtype=torch.int32))


def slots_of(row: torch.Tensor, positions: torch.Tensor, block_tokens: int) -> torch.Tensor:
    return row[positions // block_tokens].long() * block_tokens + positions % block_tokens


def write(cache: Cache, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
    """Put tokens where vLLM would: said here once more, element by element, so that a slip in `unpacked` shows."""
    size, dim = cache.block_tokens, keys.shape[-1]
    flat = cache.blocks.view(cache.blocks.shape[0], cache.blocks.shape[1], 2, size * dim)
    d = torch.arange(dim)
    for key, value, slot in zip(keys, values, slots.tolist(), strict=True):
        block, at = divmod(slot, size)
        if cache.layout == TILES:
            of_key = at // 16 * 16 * dim + d // 2 * 32 + at % 16 * 2 + d % 2
            of_value = d // 16 * 16 * size + at // 2 * 32 + d % 16 * 2 + at % 2
        else:
            of_key, of_value = d * size + at, at * dim + d
        flat[block, :, 0, of_key] = key
        flat[block, :, 1, of_value] = value
