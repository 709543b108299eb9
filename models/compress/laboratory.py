"""A model whose weights are replaced for each trial of a search: what a build costs, and how well it foretells."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from typing import Any

import torch
from torch.nn.functional import nll_loss

from models.compress.loading import STORED, WORKING, blocks_of, linears_of
from models.compress.measure import perplexity
from models.compress.rounding import Rounded, rounded
from models.compress.schemes import KEPT, W4A16, W8A8
from models.compress.width import INPUTS, OUTPUTS, best, narrowed
from models.sparse import reading
from models.sparse.budget import Budget

KINDS = ("self_attn", "mlp")
STEPS = 256  # tokens at the end of a long context that are foretold as decode steps would
NUMBER_BYTES = 2  # of keys, values and bounds of pages in bfloat16


@dataclass(frozen=True, slots=True)
class Build:
    """What a trial tries: bits by run of blocks and kind, how many blocks are left out, channels of each feed-forward
    part, and tokens of attention. None: all.
    """

    bits: Mapping[str, int]
    drop: int = 0
    width: int | None = None
    budget_tokens: int | None = None


@dataclass
class Laboratory:
    """Of each matrix its roundings are computed once.

    `ids` (windows, tokens): foretold. `context` None: window by window; else one window of so many tokens, whose last
    STEPS are read by pages where a build has a budget. `influence`: of each block. `importances`: of each channel of
    each block, where builds have widths.
    """

    model: Any
    ids: torch.Tensor
    runs: int
    group: int
    influence: Sequence[float]
    importances: Sequence[list[float]] = ()
    context: int | None = None
    _whole: dict[str, torch.Tensor] = field(default_factory=dict)
    _rounded: dict[tuple[str, int, int | None], Rounded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._blocks = list(blocks_of(self.model))
        for place, block in enumerate(self._blocks):
            for name, linear in linears_of(block):
                for own, value in linear.named_parameters():
                    self._whole[f"{place}.{name}.{own}"] = value.detach().to(STORED)
        if self.context is not None:
            reading.prepare(self.model)

    def perplexity(self, build: Build) -> float:
        self._become(build)
        if self.context is None:
            return exp(perplexity(self.model, self.ids))
        cache = reading.read(self.model, self.ids[0, : -STEPS - 1])
        said = reading.steps(self.model, cache, self.ids[0, -STEPS - 1 : -1], _always(build.budget_tokens))
        return exp(nll_loss(said, self.ids[0, -STEPS:]))

    def size_bytes(self, build: Build) -> int:
        """Of the matrices in the blocks, with their scales."""
        size_bits = 0.0
        for place, name, (rows, inputs) in self._matrices(build):
            bits = self._bits_of(build, place, name)
            scales = {W4A16: inputs / self.group * 16, W8A8: 32, KEPT: 0}[bits]
            size_bits += rows * (inputs * bits + scales)
        return round(size_bits / 8)

    def step_bytes(self, build: Build) -> int:
        """What a decode step at the end of `context` reads in the blocks: the matrices, and for each layer keys and
        values, those of the budget and the bounds of all pages where it has one.
        """
        assert self.context is not None
        config, layers = self.model.config, len(self._kept(build.drop))
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token_bytes = config.num_key_value_heads * head * 2 * NUMBER_BYTES  # a key and a value; the bounds of a page
        budget = _always(build.budget_tokens)
        if budget is None:
            return self.size_bytes(build) + layers * self.context * token_bytes
        dense, page = min(layers, budget.dense_layers), budget.page_tokens
        sparse = budget.pages().keep * page + -(-self.context // page)
        return self.size_bytes(build) + (dense * self.context + (layers - dense) * sparse) * token_bytes

    def rules(self, build: Build) -> dict[str, int]:
        """As `quantize` takes them, for the checkpoint once its blocks are dropped and numbered anew."""
        return {
            f"model.layers.{new}.{kind}.*": self._bits_of(build, place, kind)
            for new, place in enumerate(self._kept(build.drop))
            for kind in KINDS
        }

    def _become(self, build: Build) -> None:
        kept = self._kept(build.drop)
        for new, place in enumerate(kept):
            for name, linear in linears_of(self._blocks[place]):
                for own, _ in linear.named_parameters():
                    bits = self._bits_of(build, place, name) if own == "weight" else KEPT
                    getattr(linear, own).data = self._value(place, f"{name}.{own}", bits, build.width).to(WORKING)
            self._blocks[place].self_attn.layer_idx = new
        self.model.model.layers = torch.nn.ModuleList([self._blocks[place] for place in kept])
        self.model.config.num_hidden_layers = len(kept)

    def _kept(self, drop: int) -> list[int]:
        """The blocks that stay, without the *drop* that change least what flows through them."""
        gone = sorted(range(len(self._blocks)), key=lambda place: self.influence[place])[:drop]
        return [place for place in range(len(self._blocks)) if place not in gone]

    def _bits_of(self, build: Build, place: int, name: str) -> int:
        run = place * self.runs // len(self._blocks)
        return build.bits[f"{name.partition('.')[0]} {run}"]

    def _matrices(self, build: Build) -> Iterator[tuple[int, str, tuple[int, int]]]:
        """Block, name in it, and (rows, inputs) of each that stays."""
        for place in self._kept(build.drop):
            for name, _ in linears_of(self._blocks[place]):
                rows, inputs = self._whole[f"{place}.{name}.weight"].shape
                if build.width is not None and f"{name}.weight" in OUTPUTS:
                    rows = build.width
                elif build.width is not None and f"{name}.weight" in INPUTS:
                    inputs = build.width
                yield place, name, (rows, inputs)

    def _value(self, place: int, name: str, bits: int, width: int | None) -> torch.Tensor:
        """A weight or a bias. Each row is rounded by itself, so only what loses inputs is rounded anew for a width."""
        key, whole = f"{place}.{name}", self._whole[f"{place}.{name}"]
        stays = None if width is None else best(self.importances[place], width)
        if stays is not None and name in INPUTS:
            whole, stays = narrowed(name, whole, stays), None
        else:
            width = None
        if bits != KEPT:
            if (key, bits, width) not in self._rounded:
                group = self.group if bits == W4A16 else None
                made = rounded(whole.float(), bits, group, STORED if group else torch.float32)
                self._rounded[key, bits, width] = made
            whole = self._rounded[key, bits, width].dense
        return whole if stays is None else narrowed(name, whole, stays)


def _always(budget_tokens: int | None) -> Budget | None:
    """A budget as rows have it, but heeded at every step: those that are measured lie shortly before the context that
    it is chosen for.
    """
    return None if budget_tokens is None else replace(Budget(budget_tokens), dense_below_tokens=1)
