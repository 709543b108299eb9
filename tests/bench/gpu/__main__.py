"""`python -m tests.bench.gpu [--json FILE] [--quick]`: our Triton kernels beside SDPA, cuBLAS and what memory allows.

Each row is first held to a plain torch computation on the same numbers, then timed with CUDA events, once launched call
by call and once replayed from a CUDA graph. The limit is the time in which the bytes that must move do so at the rate
that a plain copy reaches on this card. Made for PyTorch 2.11 and Triton 3.6; a few minutes on an H100. `--dry` runs
every row once on a small shape and times nothing; with TRITON_INTERPRET=1 it needs no GPU.
"""

import argparse
import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import triton

from models.kernels import int4, pages
from models.sparse.budget import Budget
from tests.bench.shapes import Shape
from tests.bench.sparse.table import Table

ROUNDS = 30
WARM_UP = 5
FLUSHED_BYTES = 256 << 20  # written between two calls: no cache of a card holds more
COPIED_BYTES = 4 << 30
BF16_BYTES = 2
ROUNDING = 3e-2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # Triton's interpreter multiplies bits of bfloat16

Call = Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. *limit_us*: at the measured rate of the card's memory, the bytes that this row's call must move."""

    part: str
    case: str
    way: str
    launched_us: float | None
    graph_us: float | None
    limit_us: float
    error: float | None


LLAMA, QWEN = Shape("Llama-3-8B", 8, 4, 128), Shape("Qwen2.5-1.5B", 2, 6, 128)
BUDGET = Budget(1024, page_tokens=32)
ROWS = (1, 16, 64)
TILES = tuple((columns, parts, warps) for columns in (16, 32, 64) for parts in (1, 2, 4, 8) for warps in (2, 4))
# Which (shape, batch, context), which layers (outputs, inputs), which tiles are tried for them.
FULL = (
    tuple((s, b, c) for s in (LLAMA, QWEN) for b in (1, 8) for c in (4096, 8192, 16384, 32768)),
    ((4096, 4096), (14336, 4096), (4096, 14336)),  # Llama-3-8B's attention and MLP
    TILES,
)
QUICK = (((LLAMA, 1, 4096), (LLAMA, 1, 32768)), ((4096, 4096),), TILES)
DRY = (((Shape("small", 2, 3, 32), 2, 1536),), ((96, 256),), TILES[:1])


class Card:
    """Times calls on the GPU, and knows how fast its memory is."""

    def __init__(self) -> None:
        self._dirt = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")
        source = torch.empty(COPIED_BYTES // 2, dtype=torch.uint8, device=DEVICE)
        target = torch.empty_like(source)
        self.bytes_per_us = COPIED_BYTES / (self.timed(lambda: target.copy_(source)) or math.inf)

    def timed(self, call: Call) -> float | None:
        """Microseconds, the median, each with cold caches."""
        for _ in range(WARM_UP):
            call()
        times = []
        for _ in range(ROUNDS):
            self._dirt.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) * 1e3)
        return statistics.median(times)

    def replayed(self, call: Call) -> float | None:
        """The same from a CUDA graph; None where it cannot be captured."""
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                kept = call()
        except RuntimeError:
            return None

        def replay() -> torch.Tensor:
            graph.replay()
            return kept

        return self.timed(replay)


class Dry(Card):
    """Runs a call once and times nothing."""

    def __init__(self) -> None:
        self.bytes_per_us = math.inf

    def timed(self, call: Call) -> float | None:
        call()
        return None

    def replayed(self, call: Call) -> float | None:
        return None


def figure(us: float | None) -> str:
    return "" if us is None else f"{us:.1f}"


class Report:
    """Rows as they come, printed at once."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self._table: Table | None = None
        self.rows: list[Row] = []

    def begin(self, title: str) -> None:
        self._table = Table(title, ("case", "way", "us", "us, graph", "limit us", "of the limit", "max error"))

    def compiled(self, call: Call) -> Call:
        return call if isinstance(self.card, Dry) else torch.compile(call, dynamic=False)

    def add(self, part: str, case: str, way: str, call: Call, moved: float, told: torch.Tensor | None = None) -> None:
        """Measure *call*, which must move *moved* bytes and say what *told* says."""
        error = None if told is None else float((call().float() - told).abs().max())
        assert error is None or error < ROUNDING * max(1.0, float(told.abs().max())), f"{part}, {case}, {way}: {error}"  # type: ignore[union-attr]
        row = Row(
            part, case, way, self.card.timed(call), self.card.replayed(call), moved / self.card.bytes_per_us, error
        )
        best = min(x for x in (row.launched_us, row.graph_us, math.inf) if x is not None)
        times = (figure(us) for us in (row.launched_us, row.graph_us, row.limit_us))
        share = f"{row.limit_us / best:.0%}"
        assert self._table is not None
        self._table.add(case, way, *times, share, "" if error is None else f"{error:.1e}")
        self.rows.append(row)


def measure_decode(report: Report, shape: Shape, batch: int, context: int) -> None:
    """One decode step of one layer: everything by SDPA, everything by our kernel, and by pages."""
    page, chosen = BUDGET.page_tokens, BUDGET.pages()
    width = context // page
    cache, table = filled(shape, batch, width)
    lengths = torch.full((batch,), context - 3, dtype=torch.int32, device=DEVICE)
    query = torch.randn(batch, shape.kv_heads * shape.group, shape.dim, device=DEVICE, dtype=TYPE)
    scale = shape.dim**-0.5
    keys, values = (whole(x, table)[:, :, : context - 3] for x in (cache.keys, cache.values))

    def sdpa() -> torch.Tensor:
        found = torch.nn.functional.scaled_dot_product_attention(query[:, :, None], keys, values, enable_gqa=True)
        return found[:, :, 0]

    def everything() -> torch.Tensor:
        return pages.attend(query, cache, table, lengths, every, scale)

    def by_pages() -> torch.Tensor:
        return pages.decode(query, cache, table, lengths, chosen, scale)

    every = torch.arange(width, dtype=torch.int32, device=DEVICE).expand(batch, shape.kv_heads, -1).contiguous()
    picked = pages.choose(pages.scores(query, cache, table, lengths, chosen), chosen.keep)
    told = masked(query, keys, values, picked, page)
    dense = sdpa().float()
    moved = batch * shape.kv_heads * context * 2 * shape.dim * BF16_BYTES
    bounds = batch * shape.kv_heads * width * 2 * shape.dim * BF16_BYTES
    read = batch * shape.kv_heads * chosen.keep * page * 2 * shape.dim * BF16_BYTES
    part, case = "decode", f"{shape.name}, {batch} x {context:,}"
    report.add(part, case, "SDPA, contiguous", sdpa, moved)
    report.add(part, case, "ours, all pages", everything, moved, dense)
    report.add(part, case, f"ours, {BUDGET.budget_tokens} tokens", by_pages, bounds + read, told)


def measure_choice(report: Report, shape: Shape, batch: int, context: int) -> None:
    """What choosing takes: in single torch operations, compiled by torch, in our kernel; each with torch's top-k."""
    page, chosen = BUDGET.page_tokens, BUDGET.pages()
    width = context // page
    cache, table = filled(shape, batch, width)
    lengths = torch.full((batch,), context - 3, dtype=torch.int32, device=DEVICE)
    query = torch.randn(batch, shape.kv_heads * shape.group, shape.dim, device=DEVICE, dtype=TYPE)
    index = torch.arange(width, device=DEVICE)
    count = (context - 3 + page - 1) // page
    kept = (index < chosen.sink) | (index >= count - chosen.recent)

    def unfused() -> torch.Tensor:
        asked = query.view(batch, shape.kv_heads, shape.group, shape.dim)
        halves = torch.cat([asked.clamp(min=0), asked.clamp(max=0)], -1)
        scores = (halves @ cache.bounds[table.long()].permute(0, 2, 3, 1)).amax(2)
        return pages.choose(scores.float().masked_fill(kept, 3e38), chosen.keep)

    def fused() -> torch.Tensor:
        return pages.choose(pages.scores(query, cache, table, lengths, chosen), chosen.keep)

    moved = batch * shape.kv_heads * width * 2 * shape.dim * BF16_BYTES
    part, case = "choice", f"{shape.name}, {batch} x {context:,}"
    report.add(part, case, "torch", unfused, moved)
    report.add(part, case, "torch.compile", report.compiled(unfused), moved)
    report.add(part, case, "ours", fused, moved)


def measure_int4(report: Report, rows: int, outputs: int, inputs: int, tiles: Sequence[tuple[int, int, int]]) -> None:
    """A product with 16-bit weights by cuBLAS, and with 4-bit weights by our kernel in its best shape of tiles."""
    weights = torch.randn(outputs, inputs, device=DEVICE, dtype=TYPE)
    x = torch.randn(rows, inputs, device=DEVICE, dtype=TYPE)
    words, scales = int4.quantise(weights)
    rounded = int4.dequantise(words, scales)
    told = x.float() @ rounded.float().T

    def ours(columns: int, parts: int, warps: int) -> Call:
        return lambda: int4.product(x, words, scales, columns=columns, parts=parts, warps=warps)

    card = report.card
    best = min(tiles, key=lambda tile: card.timed(ours(*tile)) or 0.0)
    other = BF16_BYTES * rows * (inputs + outputs)
    part, case = "4-bit weights", f"{rows} x {inputs:,} -> {outputs:,}"
    report.add(part, case, "cuBLAS, 16-bit", lambda: x @ rounded.T, BF16_BYTES * outputs * inputs + other, told)
    name = "ours, columns {} parts {} warps {}".format(*best)
    moved = words.numel() * words.element_size() + scales.numel() * BF16_BYTES
    report.add(part, case, name, ours(*best), moved + other, told)


def filled(shape: Shape, batch: int, width: int) -> tuple[pages.Cache, torch.Tensor]:
    """A cache of *batch* contexts of *width* pages that lie anywhere, and their block table."""
    size = (batch * width, BUDGET.page_tokens, shape.kv_heads, shape.dim)
    keys, values = (torch.randn(size, device=DEVICE, dtype=TYPE) for _ in range(2))
    bounds = torch.empty(size[0], shape.kv_heads, 2 * shape.dim, device=DEVICE, dtype=TYPE)
    cache = pages.Cache(keys, values, bounds)
    every = torch.arange(size[0], dtype=torch.int32, device=DEVICE)
    pages.bound(cache, every, torch.full_like(every, BUDGET.page_tokens))
    assert torch.equal(bounds[..., : shape.dim], keys.amax(1))
    return cache, torch.randperm(size[0], device=DEVICE).int().view(batch, width)


def whole(cached: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """(batch, kv_heads, context, dim), contiguous."""
    batch = table.shape[0]
    return (
        cached[table.long()]
        .flatten(1, 2)
        .transpose(1, 2)
        .contiguous()
        .view(batch, cached.shape[2], -1, cached.shape[3])
    )


def masked(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, picked: torch.Tensor, page: int
) -> torch.Tensor:
    """Attention in 32 bits over the pages *picked*."""
    batch, kv_heads, context, dim = keys.shape
    seen = torch.zeros(batch, kv_heads, -(-context // page), dtype=torch.bool, device=DEVICE)
    seen.scatter_(2, picked.long(), True)
    seen = seen.repeat_interleave(page, 2)[:, :, None, :context]
    asked = query.view(batch, kv_heads, -1, dim).float()
    logits = (asked @ keys.float().transpose(2, 3) * dim**-0.5).masked_fill(~seen, -torch.inf)
    return (logits.softmax(-1) @ values.float()).view(query.shape)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE as well")
    parser.add_argument("--quick", action="store_true", help="one model, two contexts, one batch")
    parser.add_argument("--dry", action="store_true", help="a small shape, each row once: is all of it right?")
    asked = parser.parse_args()
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not torch.cuda.is_available() and not (asked.dry and interpreted):
        raise SystemExit("There is no GPU here: TRITON_INTERPRET=1 python -m tests.bench.gpu --dry checks the kernels")
    torch.manual_seed(0)
    card = Dry() if asked.dry else Card()
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    where = (
        f"{name}, a copy moves {card.bytes_per_us / 1e3:,.0f} GB/s, torch {torch.__version__}, "
        f"Triton {triton.__version__}, Python {platform.python_version()}"
    )
    print(where)
    report = Report(card)
    cases, layers, tiles = DRY if asked.dry else QUICK if asked.quick else FULL
    report.begin("A decode step of one layer's attention")
    for case in cases:
        measure_decode(report, *case)
    report.begin("Choosing the pages of that step")
    for case in cases[-2:]:
        measure_choice(report, *case)
    report.begin("A product with the weights of a layer")
    for rows in ROWS:
        for outputs, inputs in layers:
            measure_int4(report, rows, outputs, inputs, tiles)
    if asked.json:
        found = [asdict(row) for row in report.rows]
        asked.json.write_text(json.dumps({"machine": where, "rows": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
