"""One layer's attention in a decode step: vLLM's own kernel over everything, and ours by pages, on the same cache.

Processor time of one thread with cold caches, since between two calls for a layer a step reads all the others. The
limit is the time in which the bytes that a call must read are read at the rate of a plain sum over memory.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention
from vllm import _custom_ops as ops
from vllm.platforms import current_platform
from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

from models.sparse import native, reference
from models.sparse.backend import LAYOUTS
from models.sparse.budget import Budget, Pages
from tests.bench.shapes import Shape
from tests.bench.sparse.table import Table

ROUNDS = 15
FLUSHED_BYTES = 64 << 20  # more than the processor's own caches hold
READ_BYTES = 512 << 20
BLOCK_TOKENS = 32
BF16_BYTES = 2


SHAPES = (Shape("SmolLM2-135M", 3, 3, 64), Shape("Qwen2.5-0.5B", 2, 7, 64), Shape("Qwen2.5-1.5B", 2, 6, 128))


def measure(contexts: Sequence[int], batches: Sequence[int], budget: Budget) -> Table:
    torch.set_num_threads(1)
    current_platform.import_kernels()
    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
    rate = read_rate()
    table = Table(
        f"One layer's attention in a decode step, one thread; memory is read at {rate * 1e-6:.1f} GB/s",
        (
            *("model", "batch x context", "dense ms", "limit", "pages ms", "limit", "times"),
            *("pages, not fused, ms", "moved dense MB", "moved MB"),
        ),
    )
    for shape in SHAPES:
        for batch in batches:
            for context in contexts:
                table.add(*row(shape, batch, context, budget, rate))
    return table


def row(shape: Shape, batch: int, context: int, budget: Budget, rate: float) -> tuple[object, ...]:
    """*rate* in bytes a millisecond."""
    isa = _get_attn_isa(torch.bfloat16, BLOCK_TOKENS, shape.dim)
    blocks = context // BLOCK_TOKENS
    cache = reference.Cache(
        torch.zeros(batch * blocks, shape.kv_heads, BLOCK_TOKENS, 2 * shape.dim, dtype=torch.bfloat16),
        reference.empty_bounds(context * batch // budget.page_tokens, shape.kv_heads, shape.dim, torch.bfloat16),
        budget.page_tokens,
        LAYOUTS[isa],
    )
    table = torch.randperm(batch * blocks).int().view(batch, blocks)
    length = context - 3
    keys, values = cache.blocks.view(batch * blocks, shape.kv_heads, 2 * BLOCK_TOKENS, shape.dim).chunk(2, dim=2)
    for request in range(batch):
        position = torch.arange(length)
        slots = table[request][position // BLOCK_TOKENS].long() * BLOCK_TOKENS + position % BLOCK_TOKENS
        key, value = (torch.randn(length, shape.kv_heads, shape.dim).bfloat16() for _ in range(2))
        ops.cpu_attn_reshape_and_cache(key, value, keys, values, slots, isa)
        native.widen(cache, key, slots)
    query = torch.randn(batch, shape.kv_heads * shape.group, shape.dim).bfloat16()
    lengths = torch.full((batch,), length, dtype=torch.int32)
    rows, starts = torch.arange(batch, dtype=torch.int32), torch.arange(batch + 1, dtype=torch.int32)
    scale, output, pages = shape.dim**-0.5, torch.empty_like(query), budget.pages()
    plan = ops.cpu_attn_get_scheduler_metadata(
        batch, query.shape[1], shape.kv_heads, shape.dim, lengths, query.dtype, starts, True, -1, isa, True
    )

    def dense() -> None:
        ops.cpu_attention_with_kv_cache(
            query, keys, values, output, starts, lengths, scale, True, None, -1, table, 0.0, plan, None
        )

    def by_pages() -> None:
        native.decode(query, cache, table, rows, rows, lengths, pages, scale, output)

    def unfused() -> None:
        by_torch(query, cache, table, pages, scale)

    units = batch * shape.kv_heads * 2 * shape.dim * BF16_BYTES
    all_bytes = units * length
    page_bytes = units * (-(-length // budget.page_tokens) + min(length, pages.keep * budget.page_tokens))
    took, ours = timed(dense), timed(by_pages)
    return (
        shape.name,
        f"{batch} x {context:,}",
        f"{took:.2f}",
        f"{all_bytes / rate:.2f}",
        f"{ours:.2f}",
        f"{page_bytes / rate:.2f}",
        f"{took / ours:.1f}",
        f"{timed(unfused):.2f}" if budget.page_tokens == BLOCK_TOKENS else "",
        f"{all_bytes * 1e-6:.1f}",
        f"{page_bytes * 1e-6:.1f}",
    )


def by_torch(
    query: torch.Tensor, cache: reference.Cache, table: torch.Tensor, pages: Pages, scale: float
) -> torch.Tensor:
    """The same by torch's own operations, each for all requests and heads: scores, their best, gathered pages,
    attention. Pages are blocks here, and the few tokens that the last one lacks are not masked.
    """
    batch, heads, dim = query.shape
    kv_heads, count = cache.blocks.shape[1], table.shape[1]
    asked = query.view(batch, kv_heads, -1, dim)
    halves = torch.cat([asked.clamp(min=0), asked.clamp(max=0)], -1)
    bounds = cache.bounds[table.long()].transpose(1, 2)  # (batch, kv_heads, pages, 2 * dim)
    scores = (halves.float() @ bounds.float().transpose(-1, -2)).amax(2)
    best = scores[..., pages.sink : count - pages.recent].topk(pages.keep - pages.sink - pages.recent).indices
    always = torch.cat([torch.arange(pages.sink), torch.arange(count - pages.recent, count)])
    chosen = torch.cat([best + pages.sink, always.expand(batch, kv_heads, -1)], -1)
    blocks = table.long().unsqueeze(1).expand(-1, kv_heads, -1).gather(2, chosen)
    read = [reference.unpacked(cache, blocks[:, head].flatten(), head) for head in range(kv_heads)]
    keys, values = (
        torch.stack(one, 1).view(batch, -1, kv_heads, dim).transpose(1, 2) for one in zip(*read, strict=True)
    )
    return scaled_dot_product_attention(asked, keys, values, scale=scale).view(batch, heads, dim)


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of the processor, the median, each with cold caches."""
    dirt = torch.zeros(FLUSHED_BYTES, dtype=torch.uint8)
    call()
    times = []
    for _ in range(ROUNDS):
        dirt.add_(1)
        begun = time.process_time_ns()
        call()
        times.append((time.process_time_ns() - begun) * 1e-6)
    return statistics.median(times)


def read_rate() -> float:
    """Bytes that one thread reads in a millisecond."""
    much = torch.ones(READ_BYTES // 8, dtype=torch.float64)
    return READ_BYTES / timed(lambda: much.sum())
