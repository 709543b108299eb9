"""What an assertion is made of, and what one says of an answer. Knows no kind of assertion by name."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from prompts.answer import Answer
from prompts.judgement import Judge
from prompts.message import Message

NEGATION = "not-"
SHORT_CHARACTERS = 60  # of a value in a reason

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]


class Needs(StrEnum):
    """What an assertion asks besides looking at the answer."""

    EMBEDDER = "embedder"
    JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class Asks:
    """Whom an assertion may ask; what is None is not there, and what needs it fails."""

    judge: Judge | None = None
    embed: Embed | None = None


@dataclass(frozen=True, slots=True)
class Assertion:
    """`kind` is a key of KINDS. `weight`: 0 is counted and decides nothing. `metric`: counted under that name, too."""

    kind: str
    negated: bool = False
    value: Any = None
    threshold: float | None = None
    tolerance: float | None = None
    weight: float = 1.0
    metric: str | None = None

    @property
    def name(self) -> str:
        return f"{NEGATION}{self.kind}" if self.negated else self.kind


@dataclass(frozen=True, slots=True)
class Given:
    """What assertions look at: an answer without error, and what it answers."""

    answer: Answer
    messages: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one assertion says. `reason` never quotes the answer; `detail` may. `graded`: 0 to 1, where it says more
    than whether it passed.

    Not `evaluated`: nobody can tell. That passes neither an assertion nor its negation.
    """

    passed: bool
    reason: str
    graded: float | None = None
    evaluated: bool = True
    detail: str = ""

    @property
    def score(self) -> float:
        return float(self.passed) if self.graded is None else self.graded

    def negated(self) -> "Verdict":
        if not self.evaluated:
            return self
        return replace(self, passed=not self.passed, graded=None if self.graded is None else 1 - self.graded)


def not_evaluated(reason: str, detail: str = "") -> Verdict:
    return Verdict(False, f"not evaluated: {reason}", evaluated=False, detail=detail)


class Threshold(StrEnum):
    """Whether a kind takes one."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


Check = Callable[[Assertion, Given], Verdict]
Ask = Callable[[Assertion, Given, Asks], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class Kind:
    """`check` looks, `ask` asks; one of them is set. `value` raises ValueError for one that the kind cannot take.
    `most` is the highest threshold that makes sense, and `unit` what it is counted in.
    """

    value: Callable[[Any], None]
    check: Check | None = None
    ask: Ask | None = None
    needs: Needs | None = None
    threshold: Threshold = Threshold.NONE
    unit: str = ""
    most: float | None = None
    takes_tolerance: bool = False


def short(value: object) -> str:
    """A value of a suite as a reason shows it."""
    text = repr(value)
    return text if len(text) <= SHORT_CHARACTERS else f"{text[:SHORT_CHARACTERS]}..."


def no_value(value: Any) -> None:
    if value is not None:
        raise ValueError("takes no value")


def a_text(value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(_not_a_text(value))


def texts(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise ValueError("needs a list of texts as value")
    for item in value:
        a_text(item)


def _not_a_text(value: Any) -> str:
    if isinstance(value, bool):
        return "needs a text as value; put it in quotes: YAML reads yes, no, on and off as true and false"
    if isinstance(value, str):
        return "needs a value that is not empty: every answer has that"
    return "needs a text as value" + ("; put it in quotes" if isinstance(value, int | float) else "")
