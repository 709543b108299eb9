"""Whether two answers to one request say the same. Pure; no model judges here, and nothing is kept.

The first answer is the safe tier's and is taken as right; the other one passes when it says the same. What that
promises: agreement. Where the safe tier is wrong and the other right, or both are right in words that the comparer
does not know for the same, it counts as a failure; so the share that passes is a lower bound on how often the other
one is as good. `Similar` promises less: texts alike by their words may differ in what they claim, and static vectors
hardly notice (EXPERIMENTS.md, 22: at 0.9 half of the texts that said the opposite passed, and half of those that said
the same). So it compares only where the owner has chosen it.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import orjson

from prompts.canonical import canonical, folded
from prompts.grade import said

SHORT_CHARACTERS = 64  # of an answer that is a word, a label, a number or a name: to say it otherwise is to differ
LENGTH_RATIO = 2.0  # of two texts alike; one that is longer says more, or nothing at length
LEADING = "\"'`*_([{\u201c\u2018\u00ab"  # the last three are quotation marks, as the first three below
TRAILING = "\u201d\u2019\u00bb\"'`*_)]}.,;:!?"
NEGATION = re.compile(r"\b(?:no|not|none|never|neither|nor|without|cannot|\w+n['\u2019]t)\b", re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Comparer(Protocol):
    """`by_vectors`: `same` wants to know how alike the two are."""

    @property
    def by_vectors(self) -> bool: ...

    def takes(self, right: str) -> bool:
        """Whether there is something in *right*, the safe tier's answer, that another can be compared with."""

    def same(self, right: str, other: str, cosine: float | None = None) -> bool:
        """*right* is one that it takes. *cosine*: of the two texts' vectors, -1 to 1."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The same words; case, space, and what punctuation stands around a word are folded. Signs within a word count:
    3.5 is not 35, nor -5 5.
    """

    by_vectors: bool = False

    def takes(self, right: str) -> bool:
        return bool(_words(right))

    def same(self, right: str, other: str, cosine: float | None = None) -> bool:
        return _words(right) == _words(other)


@dataclass(frozen=True, slots=True)
class Json:
    """Equal JSON values: the order of keys and the form of numbers (1.0 and 1) do not count, texts do."""

    by_vectors: bool = False

    def takes(self, right: str) -> bool:
        return _canonical(right) is not None

    def same(self, right: str, other: str, cosine: float | None = None) -> bool:
        return _canonical(right) == _canonical(other)


@dataclass(frozen=True, slots=True)
class Graded:
    """What the grader called `grade` looks at is the same in both: for `number` the last one, to a millionth."""

    grade: str
    by_vectors: bool = False

    def takes(self, right: str) -> bool:
        return bool(said(self.grade, right))

    def same(self, right: str, other: str, cosine: float | None = None) -> bool:
        return said(self.grade, right) == said(self.grade, other)


@dataclass(frozen=True, slots=True)
class Similar:
    """Texts whose vectors have a cosine of `at_least` that much (0 to 1), with the same numbers, as many negations, and
    neither more than twice as long as the other.
    """

    at_least: float
    by_vectors: bool = True

    def takes(self, right: str) -> bool:
        return bool(_words(right))

    def same(self, right: str, other: str, cosine: float | None = None) -> bool:
        assert cosine is not None, "compared without the vectors' cosine"
        one, two = len(right.strip()), len(other.strip())
        return (
            cosine >= self.at_least
            and max(one, two) <= LENGTH_RATIO * min(one, two)
            and Counter(NUMBER.findall(right)) == Counter(NUMBER.findall(other))
            and len(NEGATION.findall(right)) == len(NEGATION.findall(other))
        )


def usual(right: str, *, as_json: bool) -> Comparer | None:
    """What compares an answer to *right* where nobody has chosen; None where nothing does that promises agreement.

    *as_json*: the request asked for JSON.
    """
    if as_json:
        return Json()
    return Exact() if len(right.strip()) <= SHORT_CHARACTERS else None


def _words(text: str) -> list[str]:
    stripped = (word.lstrip(LEADING).rstrip(TRAILING) for word in text.lower().split())
    return [word for word in stripped if word]


def _canonical(text: str) -> bytes | None:
    """One text for all that say the same; None for what is no JSON, or nested too deeply to be written."""
    try:
        return canonical(folded(orjson.loads(text)))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return None
