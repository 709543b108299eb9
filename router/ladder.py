"""Gradeable prompts from easy to hard, for measuring models. Reads the ladder file; calls nothing.

The file (JSON lines, gzip) holds one prompt a line: `id, task, prompt, answer, grade`. It is not part of the project:
see docs/evidence.md for where its parts come from.
"""

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path

from prompts.message import Message

CALIBRATE_BELOW = 0.6
FIT_BELOW = 0.4


class Split(StrEnum):
    """What a prompt may be used for. FIT and CALIBRATE are what the router knows; TEST is read only to judge it."""

    FIT = "fit"
    CALIBRATE = "calibrate"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LadderPrompt:
    id: str
    task: str
    messages: tuple[Message, ...]
    expected: str
    grade: str


def split_of(prompt_id: str) -> Split:
    """Decided by a hash of the id alone, so that it never changes when prompts are added: 40 % / 20 % / 40 %."""
    share = _hash(f"split:{prompt_id}") / 2**64
    if share < FIT_BELOW:
        return Split.FIT
    return Split.CALIBRATE if share < CALIBRATE_BELOW else Split.TEST


def read_ladder(path: Path) -> list[LadderPrompt]:
    """Every prompt of the file, in its order. Raises OSError, or ValueError naming the line that is wrong."""
    prompts: list[LadderPrompt] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        try:
            for line in lines:
                prompts.append(_prompt(json.loads(line)))
        except (EOFError, zlib.error, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {len(prompts) + 1}: not a ladder prompt: {error!r}") from error
    return prompts


def sample(prompts: Iterable[LadderPrompt], per_task: int) -> list[LadderPrompt]:
    """*per_task* prompts of each task, tasks taking turns, so that any beginning of the list is balanced too."""
    by_task: dict[str, list[LadderPrompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda p: _hash(f"sample:{p.id}")):
        by_task[prompt.task].append(prompt)
    columns = [by_task[task][:per_task] for task in sorted(by_task)]
    return [prompt for turn in zip_longest(*columns) for prompt in turn if prompt is not None]


def _prompt(row: dict[str, str]) -> LadderPrompt:
    """As an application would send it: the instruction, the same for the whole task, as the system message."""
    instruction, _, question = row["prompt"].partition("\n")
    if not question:
        raise ValueError("there is no question after the first line, which is the instruction")
    name = row["task"].removeprefix("bbh_").replace("_", " ")
    messages: tuple[Message, ...] = (
        {"role": "system", "content": f"Task: {name}.\n{instruction}"},
        {"role": "user", "content": question},
    )
    return LadderPrompt(row["id"], row["task"], messages, row["answer"], row["grade"])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
