"""What flows through a model's blocks on a few texts: the inputs of each matrix, one block after the other."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.compress.loading import blocks_of, linears_of

Inputs = Mapping[str, torch.Tensor]  # by a matrix's name in its block, (in, in): sums of the products of inputs


class _Caught(Exception):
    """The first block was reached: what it was given is known."""


@dataclass
class Stream:
    """The hidden states (windows, tokens, width) in front of the next block, and what every block is given besides."""

    hidden: torch.Tensor
    around: Mapping[str, Any]

    @classmethod
    @torch.no_grad()
    def into(cls, model: Any, ids: torch.Tensor) -> "Stream":
        """*ids* (windows, tokens) up to the first block."""
        caught: list[tuple[torch.Tensor, Mapping[str, Any]]] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            caught.append((args[0] if args else kwargs["hidden_states"], kwargs))
            raise _Caught

        handle = blocks_of(model)[0].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            # One window: what stands around (positions, mask) is then the same for each of them.
            for row in ids:
                try:
                    model(row.unsqueeze(0), use_cache=False)
                except _Caught:
                    continue
        finally:
            handle.remove()
        around = {name: value for name, value in caught[0][1].items() if name != "hidden_states"}
        return cls(torch.cat([hidden for hidden, _ in caught]), around)

    @torch.no_grad()
    def through(self, block: nn.Module) -> torch.Tensor:
        """What comes out of *block*, window by window."""
        return torch.cat([_first(block(row.unsqueeze(0), **self.around)) for row in self.hidden])


def products(stream: Stream, block: nn.Module) -> Inputs:
    """Of each matrix of *block* the sum of x x^T over the inputs x that *stream* brings it."""
    sums: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def add(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            rows = args[0].detach().flatten(0, -2).float()
            sums[name] = sums[name] + rows.T @ rows if name in sums else rows.T @ rows

        return add

    handles = [linear.register_forward_pre_hook(watch(name)) for name, linear in linears_of(block)]
    try:
        stream.through(block)
    finally:
        for handle in handles:
            handle.remove()
    return sums


def walk(model: Any, ids: torch.Tensor) -> Iterator[tuple[int, nn.Module, Stream]]:
    """Each block with what flows into it, through the blocks before as they are when their turn is over."""
    stream = Stream.into(model, ids)
    for place, block in enumerate(blocks_of(model)):
        yield place, block, stream
        stream.hidden = stream.through(block)


def _first(out: Any) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out
