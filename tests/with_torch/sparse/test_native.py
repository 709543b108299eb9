"""The kernel does what the definition says, for shapes, lengths and pages of any kind."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sparse import native, reference
from models.sparse.budget import Pages
from tests.with_torch.sparse.caches import Filled, Shape, filled

TYPES = [torch.bfloat16, torch.float16, torch.float32]
ROUNDING = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float32: 2e-5}  # of outputs of size 1 to 4
SCORE_ROUNDING = 1e-3  # sums of 2 * dim products of 32 bits, added up in another order


@st.composite
def cases(draw: st.DrawFn) -> tuple[Filled, Pages]:
    block = draw(st.sampled_from([32, 64, 128]))
    page = draw(st.sampled_from([p for p in (16, 32, 64) if p <= block]))
    layout = draw(st.sampled_from([reference.TILES, reference.PLAIN]))
    dtype = torch.bfloat16 if layout == reference.TILES else draw(st.sampled_from(TYPES))
    shape = Shape(
        kv_heads=draw(st.integers(1, 3)),
        group=draw(st.integers(1, 9)),
        dim=draw(st.sampled_from([32, 64] if layout == reference.TILES else [16, 64, 80])),
        block_tokens=block,
        page_tokens=page,
        lengths=draw(st.lists(st.integers(1, 700), min_size=1, max_size=4)),
        layout=layout,
        dtype=dtype,
        seed=draw(st.integers(0, 9999)),
    )
    sink, recent = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    return filled(shape), Pages(keep=sink + recent + draw(st.integers(1, 12)), sink=sink, recent=recent)


@settings(max_examples=60)
@given(case=cases())
def test_the_kernel_reads_the_pages_of_the_definition_and_attends_as_it_does(case: tuple[Filled, Pages]) -> None:
    """What is not written is NaN, so a token read past the length shows."""
    held, pages = case

    output, read = held.decode(pages, native.decode)
    expected, told = held.decode(pages)

    assert_as_good(held, pages, read, told)
    same = (read == told).all(-1).repeat_interleave(held.query.shape[1] // read.shape[1], 1)
    assert torch.isfinite(output).all()
    assert float(torch.where(same[..., None], (output - expected).abs(), 0.0).max()) < ROUNDING[held.query.dtype]


def assert_as_good(held: Filled, pages: Pages, read: torch.Tensor, told: torch.Tensor) -> None:
    """The same pages, or others whose scores differ by no more than rounding."""
    group = held.query.shape[1] // read.shape[1]
    per_block = held.cache.block_tokens // held.cache.page_tokens
    for i, length in enumerate(held.lengths.tolist()):
        count = -(-length // held.cache.page_tokens)
        ids = (held.table[i].long()[:, None] * per_block + torch.arange(per_block)).flatten()[:count]
        for head in range(read.shape[1]):
            mine, theirs = read[i, head].tolist(), told[i, head].tolist()
            scores = reference.scores(held.query[i, head * group : (head + 1) * group], held.cache.bounds[ids, head])
            for one, other in zip(sorted({*mine} - {*theirs}), sorted({*theirs} - {*mine}), strict=True):
                assert abs(float(scores[one] - scores[other])) < SCORE_ROUNDING * float(scores.abs().max())
            kept = [page for page in mine if page >= 0]
            assert kept == sorted({*kept})
            assert {*range(min(count, pages.sink)), *range(max(0, count - pages.recent), count)} <= {*kept}


@settings(max_examples=30)
@given(case=cases())
def test_with_all_pages_the_kernel_attends_to_everything(case: tuple[Filled, Pages]) -> None:
    held, _ = case

    output, _ = held.decode(Pages(keep=64, sink=1, recent=1), native.decode)

    assert float((output - held.dense()).abs().max()) < ROUNDING[held.query.dtype]


@settings(max_examples=30)
@given(
    dtype=st.sampled_from(TYPES),
    tokens=st.integers(1, 150),
    page=st.sampled_from([16, 32]),
    seed=st.integers(0, 999),
    gaps=st.booleans(),
)
def test_the_kernel_keeps_the_bounds_of_the_definition(
    dtype: torch.dtype, tokens: int, page: int, seed: int, gaps: bool
) -> None:
    """Exactly: a bound is a key's own number. Twice over the same pages, as when they change their owner."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.zeros(8, 2, 64, 64, dtype=dtype)
    cache, told = (
        reference.Cache(blocks, torch.zeros(8 * 64 // page, 2, 64, dtype=dtype), page, reference.PLAIN)
        for _ in range(2)
    )
    for _ in range(2):
        projected = torch.randn(tokens, 3 * 2 * 32, generator=random).to(dtype)
        keys = projected[:, 64:128].view(tokens, 2, 32)  # as vLLM hands them over: cut out of a wider tensor
        slots = torch.randperm(8, generator=random).repeat_interleave(64)[:tokens] * 64 + torch.arange(tokens) % 64
        if gaps:
            slots[::7] = -1

        native.widen(cache, keys, slots)
        reference.widen(told.bounds, keys, slots, page)

        assert torch.equal(cache.bounds, told.bounds)


def test_several_threads_say_what_one_says() -> None:
    held = filled(Shape(2, 7, 64, 64, 32, [3000, 10], reference.TILES))
    pages = Pages(keep=40, sink=1, recent=2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, read = held.decode(pages, native.decode)
        torch.set_num_threads(4)
        together, also_read = held.decode(pages, native.decode)
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(read, also_read)
    assert float((alone - together).abs().max()) < ROUNDING[torch.bfloat16]


def test_tokens_that_are_not_asked_for_are_left_alone() -> None:
    held = filled(Shape(1, 2, 32, 32, 32, [100, 100, 100]))
    output = torch.full_like(held.query, 5.0)
    one = torch.tensor([1], dtype=torch.int32)

    native.decode(held.query, held.cache, held.table, one, one, held.lengths[1:2], Pages(9, 1, 1), held.scale, output)

    assert (output[[0, 2]] == 5.0).all()
    assert (output[1] != 5.0).all()


def test_a_key_that_is_no_number_ends_no_process() -> None:
    held = filled(Shape(1, 2, 32, 32, 32, [900]))
    held.cache.bounds[3:7] = torch.nan

    _, read = held.decode(Pages(keep=8, sink=1, recent=1), native.decode)

    assert len(set(read[0, 0].tolist())) == 8


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(native.NotBuilt, match="install g\\+\\+"):
        native._build(native.FLAGS, tmp_path / "kernel.so")


def test_a_compiler_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "failing"
    program.write_text("#!/bin/sh\necho out of disk >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))

    with pytest.raises(native.NotBuilt, match="out of disk"):
        native._build(native.FLAGS, tmp_path / "built" / "kernel.so")

    assert list((tmp_path / "built").iterdir()) == []
