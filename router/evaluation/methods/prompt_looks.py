"""What can be read off a question beyond `router.features`: its options, its numbers, and the words that ask."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log1p

import numpy as np

from router.evaluation.methods.answer_looks import CATCH_ALL, options_of
from router.evaluation.samples import Texts
from router.evaluation.tables import Floats
from router.features import LIMIT_CHARACTERS, NUMBER

FIRST_OPTION = re.compile(r"\n[^\S\n]*\(?A[.):]\s")
CENTS = re.compile(r"\$\s?\d[\d,]*\.\d\d")
WORD = re.compile(r"[a-z]+")
LARGEST = 1e15  # a longer row of digits is no number that anybody reckons with
MOST_NUMBERS = 100  # of a prompt; later ones tell nothing new
WORDS: Mapping[str, frozenset[str]] = {
    "fractions": frozenset({"half", "twice", "third", "quarter", "double", "triple", "percent"}),
    "each": frozenset({"each", "every", "per"}),
    "comparisons": frozenset({"more", "less", "fewer", "older", "younger", "times", "than"}),
    "rest": frozenset({"remain", "remaining", "left", "rest"}),
    "time": frozenset(
        {"hour", "hours", "minute", "minutes", "day", "days", "week", "weeks", "month", "months", "year"}
    ),
    "money": frozenset(
        {"cost", "costs", "price", "pay", "earn", "earns", "spend", "money", "dollars", "bill", "change"}
    ),
    "negations": frozenset({"not", "except", "false", "never", "least"}),
    "which": frozenset({"which", "following"}),
    "why": frozenset({"why", "how", "explain", "because"}),
    "many": frozenset({"many", "much", "total"}),
    "calculus": frozenset({"find", "calculate", "compute", "determine", "evaluate", "solve"}),
    "law": frozenset({"plaintiff", "defendant", "court", "statute", "contract", "liable", "jury"}),
    "moral": frozenset({"wrong", "moral", "ethical", "standards"}),
    "true": frozenset({"true", "statement", "statements", "correct"}),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """`question`: the text before the options; `last`: its last sentence. Both in lower case."""

    question: str
    last: str
    words: tuple[str, ...]
    numbers: tuple[float, ...]
    options: Mapping[str, str]
    option_numbers: tuple[float, ...]

    @property
    def option_lengths(self) -> list[float]:
        return [log1p(len(text)) for text in self.options.values()] or [0.0]


LOOKS: Mapping[str, Callable[[Seen], float]] = {
    "options": lambda seen: log1p(len(seen.options)),
    "option_length": lambda seen: float(np.mean(seen.option_lengths)),
    "option_spread": lambda seen: max(seen.option_lengths) - min(seen.option_lengths),
    "option_numbers": lambda seen: len(seen.option_numbers) / max(1, len(seen.options)),
    "option_number_spread": lambda seen: log1p(float(np.std(seen.option_numbers))) if seen.option_numbers else 0.0,
    "option_catch_all": lambda seen: float(any(CATCH_ALL.search(text) for text in seen.options.values())),
    "log_question": lambda seen: log1p(len(seen.question)),
    "log_last": lambda seen: log1p(len(seen.last)),
    "numbers": lambda seen: log1p(len(seen.numbers)),
    "largest": lambda seen: log1p(max(seen.numbers, default=0.0)),
    "not_whole": lambda seen: float(any(number % 1 for number in seen.numbers)),
    "over_100": lambda seen: log1p(sum(number > 100 for number in seen.numbers)),
    "dollars": lambda seen: log1p(seen.question.count("$")),
    "cents": lambda seen: float(bool(CENTS.search(seen.question))),
    "asks_money": lambda seen: float(any(word in WORDS["money"] for word in WORD.findall(seen.last))),
    "percents": lambda seen: log1p(seen.question.count("%")),
    "blank": lambda seen: float("__" in seen.question),
    "backslashes": lambda seen: log1p(seen.question.count("\\")),
    "roman": lambda seen: float(" ii" in seen.question),
    "colon": lambda seen: float(seen.question.rstrip().endswith(":")),
    "distinct": lambda seen: len(set(seen.words)) / max(1, len(seen.words)),
    "long_words": lambda seen: sum(len(word) > 8 for word in seen.words) / max(1, len(seen.words)),
    **{
        f"words_{name}": (lambda seen, those=those: log1p(sum(word in those for word in seen.words)))  # type: ignore[misc]
        for name, those in WORDS.items()
    },
}


def prompt_looks(texts: Texts) -> Floats:
    """(P, len(LOOKS))."""
    rows = [[look(seen) for look in LOOKS.values()] for seen in map(_seen, texts)]
    return np.array(rows, dtype=np.float64).reshape(len(texts), len(LOOKS))


def _seen(text: str) -> Seen:
    text = text[-LIMIT_CHARACTERS:]
    options, numbers = options_of(text)
    begins = FIRST_OPTION.search(text) if options else None
    question = (text[: begins.start()] if begins else text).lower()
    written = [number for number in NUMBER.findall(question)[:MOST_NUMBERS] if number.count(".") < 2]
    found = [min(LARGEST, float(number.replace(",", ""))) for number in written]
    last = re.split(r"[.!?]\s", question.strip())[-1]
    return Seen(question, last, tuple(WORD.findall(question)), tuple(found), options, tuple(numbers.values()))
