"""What can be read off an extracted answer beside its prompt: what kind it is, how large, whether the prompt has it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, log1p

import numpy as np

from router.evaluation.methods.agreement import NUMBER, answer_key
from router.evaluation.samples import Answers, Texts
from router.evaluation.tables import Floats
from router.features import CATCH_ALL, choices_of, numbers_of

LETTERS = "abcdefghij"  # of options: some are right more often than others
LETTER = re.compile(r"[a-z]")
LEAST_NUMBERS = 3  # options with a number, before their order says anything


@dataclass(frozen=True, slots=True)
class Seen:
    """`key`: the answer, folded; "" for none. `options`: their texts by letter; `numbers`: of those that begin with
    one.
    """

    key: str
    prompt: str
    number: float | None
    options: Mapping[str, str]
    numbers: Mapping[str, float]

    @property
    def option(self) -> str | None:
        return self.options.get(self.key.upper()) if LETTER.fullmatch(self.key) else None


def _place(seen: Seen) -> float:
    """Where the chosen letter stands among the options, 0 to 1."""
    return (
        list(seen.options).index(seen.key.upper()) / max(1, len(seen.options) - 1) if seen.option is not None else 0.0
    )


def _relative_length(seen: Seen) -> float:
    if seen.option is None:
        return 0.0
    return log1p(len(seen.option)) - float(np.mean([log1p(len(text)) for text in seen.options.values()]))


def _is_extreme(seen: Seen, extreme: Callable[[list[int]], int]) -> float:
    if seen.option is None:
        return 0.0
    return float(len(seen.option) == extreme([len(text) for text in seen.options.values()]))


def _number_rank(seen: Seen) -> float | None:
    """Where the chosen option's number stands among those of all, -0.5 to 0.5; the right one is seldom at an end."""
    if seen.option is None or len(seen.numbers) < LEAST_NUMBERS or seen.key.upper() not in seen.numbers:
        return None
    chosen = seen.numbers[seen.key.upper()]
    return sum(number < chosen for number in seen.numbers.values()) / (len(seen.numbers) - 1) - 0.5


LOOKS: Mapping[str, Callable[[Seen], float]] = {
    "there": lambda seen: float(seen.key != ""),
    "log_characters": lambda seen: log1p(len(seen.key)),
    "letter": lambda seen: float(seen.option is not None),
    "place": _place,
    "options": lambda seen: log1p(len(seen.options)) if seen.option is not None else 0.0,
    "no_such_option": lambda seen: float(bool(seen.options) and seen.key != "" and seen.option is None),
    "relative_length": _relative_length,
    "longest": lambda seen: _is_extreme(seen, max),
    "shortest": lambda seen: _is_extreme(seen, min),
    "number_rank": lambda seen: _number_rank(seen) or 0.0,
    "number_outside": lambda seen: abs(_number_rank(seen) or 0.0),
    "catch_all": lambda seen: float(bool(CATCH_ALL.search(seen.option or ""))),
    "number": lambda seen: float(seen.number is not None),
    "log_value": lambda seen: log1p(abs(seen.number)) if seen.number is not None else 0.0,
    "negative": lambda seen: float(seen.number is not None and seen.number < 0),
    "fraction": lambda seen: float(seen.number is not None and seen.number % 1 != 0),
    "tens": lambda seen: float(seen.number is not None and seen.number % 10 == 0),
    "in_prompt": lambda seen: float(len(seen.key) > 1 and seen.key in seen.prompt),
    "quoted": lambda seen: float(seen.prompt != "" and seen.key[:1] in ("[", "{", "(")),
    "true_or_false": lambda seen: float(seen.key in ("true", "false")),
}


def answer_looks(answers: Answers, prompts: Texts) -> Floats:
    """(P, len(LOOKS) + len(LETTERS) + 1): the last is the length of all that was said, in log tokens."""
    seen = list(map(_seen, answers.texts, prompts))
    rows = [[look(one) for look in LOOKS.values()] + [float(one.key == letter) for letter in LETTERS] for one in seen]
    said = np.log1p(np.nan_to_num(answers.tokens))
    return np.column_stack([np.array(rows).reshape(len(prompts), len(LOOKS) + len(LETTERS)), said])


def _seen(answer: str | None, prompt: str) -> Seen:
    key = "" if answer is None else answer_key(answer)
    number = float(key) if NUMBER.fullmatch(key) else None
    if number is not None and not isfinite(number):
        number = None
    return Seen(key, prompt.casefold(), number, *options_of(prompt))


@lru_cache(maxsize=4)  # both answers of a prompt are looked at in turn
def options_of(prompt: str) -> tuple[Mapping[str, str], Mapping[str, float]]:
    """The options of a multiple choice by letter: their texts, and the numbers of those that begin with one."""
    options = choices_of(prompt)
    return options, numbers_of(options)
