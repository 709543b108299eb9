"""What a guardrail is: it finds stretches of a text. What becomes of them is for `sieve`; knows no requests."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from pydantic import Field, model_validator

from gateway.section import Section


class Side(StrEnum):
    """The way on which texts are looked at."""

    REQUEST = "request"
    ANSWER = "answer"


class Action(StrEnum):
    MASK = "mask"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Finding:
    """A stretch of a text that may not pass. `label` says what it is, and stands for it where it is masked."""

    start: int
    end: int
    label: str

    @property
    def mask(self) -> str:
        return f"[{self.label}]"


class Finder(Protocol):
    """Whether a finding begins at a place is told by the character before it and the next `reach_characters`, and by
    nothing beyond a character that is not `inside` and comes at or after the place. So a stream can be looked at while
    it grows, and what is found does not depend on how it was cut.
    """

    @property
    def reach_characters(self) -> int: ...

    def inside(self, character: str) -> bool:
        """A finding may hold *character*."""

    def find(self, text: str, start: int) -> Finding | None:
        """The first finding that begins at *start* or after it."""


@dataclass(frozen=True, slots=True)
class Guardrail:
    """*finders* look for different things; of those that begin at the same place the longest counts."""

    name: str
    finders: Sequence[Finder]
    applies_to: Collection[Side]
    action: Action

    def findings(self, text: str, start: int) -> Iterator[Finding]:
        """Those that begin at *start* or after it, none within another. Each finder reads the text once."""
        ahead = [finder.find(text, start) for finder in self.finders]
        while first := min(filter(None, ahead), key=lambda finding: (finding.start, -finding.end), default=None):
            yield first
            ahead = [
                finder.find(text, first.end) if finding is not None and finding.start < first.end else finding
                for finder, finding in zip(self.finders, ahead, strict=True)
            ]

    def decided(self, text: str) -> int:
        """For every place of *text* before this one it is known whether a finding begins there, whatever follows."""
        return min((_decided(finder, text) for finder in self.finders), default=len(text))


class RailSection(Section):
    """What every kind of guardrail is told; a kind adds its own keys and makes its rail."""

    applies_to: tuple[Side, ...] = Field(
        default=tuple(Side), description="what is looked at: request, answer, or both when unset"
    )
    action: Action = Field(default=Action.MASK, description="mask what is found, or refuse the request or the answer")

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not self.applies_to:
            raise ValueError("'applies_to' must name request, answer or both")
        self.rail()
        return self

    @abstractmethod
    def rail(self) -> Guardrail:
        """Raises ValueError when this cannot be, naming the remedy."""


def _decided(finder: Finder, text: str) -> int:
    place, first = len(text), max(0, len(text) - finder.reach_characters)
    while place > first and finder.inside(text[place - 1]):
        place -= 1
    return place
