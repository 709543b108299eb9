"""Conversations with their answers, as rows of tokens that a model learns from: only the answer's are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from models.compress.loading import prompt_ids
from models.job import JobFailed

IGNORED = -100  # torch's own: a place whose token is not counted
FEWEST = 8  # examples to learn from


@dataclass(frozen=True, slots=True)
class Example:
    """`prompt`, then `answer` with its end-of-turn token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded on the left, so that all answers end at the last column. ids, mask: (rows, tokens); wanted: (rows, kept),
    the tokens that the last `kept` places should foretell.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    wanted: torch.Tensor

    @property
    def kept(self) -> int:
        return self.wanted.shape[1]


def examples_of(tokenizer: Any, rows: Sequence[Mapping[str, Any]], most_tokens: int) -> list[Example]:
    """Rows of `messages` and `answer`; those over *most_tokens* are left out. Raises JobFailed where too few are
    left.
    """
    made = []
    for row in rows:
        prompt = prompt_ids(tokenizer, row["messages"])
        answer = [*tokenizer(row["answer"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if len(prompt) + len(answer) <= most_tokens:
            made.append(Example(tuple(prompt), tuple(answer)))
    if len(made) < FEWEST:
        raise JobFailed(f"{len(made)} of {len(rows)} examples are within {most_tokens} tokens; {FEWEST} are needed")
    return made


def batch_of(examples: Sequence[Example], padding: int) -> Batch:
    width = max(len(e.prompt) + len(e.answer) for e in examples)
    kept = max(len(e.answer) for e in examples)
    ids = torch.full((len(examples), width), padding, dtype=torch.long)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    wanted = torch.full((len(examples), kept), IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        tokens = torch.tensor([*example.prompt, *example.answer])
        ids[row, width - len(tokens) :] = tokens
        mask[row, width - len(tokens) :] = 1
        wanted[row, kept - len(example.answer) :] = torch.tensor(example.answer)
    return Batch(ids, mask, wanted)


def order_of(count: int, epoch: int, seed: int) -> list[int]:
    """The same for the same epoch and seed, whatever was interrupted between."""
    order = list(range(count))
    Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311  # an order, no secret
    return order
