"""What a command and the process that works for it say to each other: one job in, lines of events out. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

DOING, RESULT, REFUSED = "doing", "result", "refused"  # the three kinds of lines

Settings = Mapping[str, Any]  # JSON: what a job is to do


class Refused(Exception):
    """A job cannot be done with what it was given; the message says with what, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is: `done` of `total` parts. `says` is what it does now."""

    says: str
    done: int
    total: int


Tell = Callable[[Step], None]


def line_of(step: Step) -> dict[str, Any]:
    return {DOING: step.says, "done": step.done, "total": step.total}


def step_of(line: Mapping[str, Any]) -> Step:
    return Step(str(line[DOING]), int(line["done"]), int(line["total"]))
