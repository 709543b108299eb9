"""What does this answer say, and is it right? Graders by name, all exact: no model judges here."""

import ast
import re
import string
from collections.abc import Callable

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
ANSWER = re.compile(r"answer\s*:", re.IGNORECASE)
FOLD = str.maketrans("", "", string.punctuation)
NUMBER_TOLERANCE = 1e-6  # answers are exact decimals; this only forgives their binary form


def final_answer(text: str) -> str:
    """What follows the last 'Answer:', or the whole text where nobody wrote it."""
    return ANSWER.split(text)[-1].strip()


def number(text: str, expected: str) -> bool:
    """The last number written equals *expected* (1,234 and 1234.0 are equal)."""
    found = NUMBER.findall(text)
    if not found:
        return False
    return abs(float(found[-1].replace(",", "")) - float(expected.replace(",", ""))) <= NUMBER_TOLERANCE


def exact(text: str, expected: str) -> bool:
    """The final answer equals *expected*; case, punctuation and spacing are folded."""
    return _folded(final_answer(text)) == _folded(expected)


def python_literal(text: str, expected: str) -> bool:
    """The first line of the final answer is the same Python value as *expected*."""
    lines = final_answer(text).strip("`").splitlines()
    try:
        return bool(lines) and bool(ast.literal_eval(lines[0].strip("` ")) == ast.literal_eval(expected))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def one_of(words: tuple[str, ...]) -> Callable[[str, str], bool]:
    """A grader for classification: the first of *words* that occurs in the answer is *expected*."""
    pattern = _any_of(words)

    def grade(text: str, expected: str) -> bool:
        found = pattern.search(text)
        return found is not None and found.group(1).lower() == expected.lower()

    return grade


GRADERS: dict[str, Callable[[str, str], bool]] = {"number": number, "exact": exact, "python_literal": python_literal}


def grader(name: str) -> Callable[[str, str], bool]:
    """The grader called *name*: a key of GRADERS, or `one_of:word,word`. Raises ValueError for an unknown name."""
    if name.startswith("one_of:"):
        words = tuple(name.removeprefix("one_of:").split(","))
        if not all(words):
            raise ValueError(f"grader {name!r} lists an empty word, which every answer would hold")
        return one_of(words)
    if name not in GRADERS:
        raise ValueError(f"unknown grader {name!r}; known: {', '.join(GRADERS)}, one_of:WORD,WORD")
    return GRADERS[name]


def said(name: str, text: str) -> str:
    """What the grader called *name* looks at in *text*, in one form: two answers that say the same are equal here.

    Empty where it finds nothing. Raises ValueError for an unknown name.
    """
    grader(name)
    match name:
        case "number":
            found = NUMBER.findall(text)
            return _number_said(found[-1].replace(",", "")) if found else ""
        case "exact":
            return _folded(final_answer(text))
        case "python_literal":
            lines = final_answer(text).strip("`").splitlines()
            return lines[0].strip("` ").replace(" ", "").replace('"', "'") if lines else ""
        case _:
            pattern = _any_of(tuple(name.removeprefix("one_of:").split(",")))
            word = pattern.search(text)
            return word.group(1).lower() if word else ""


def _number_said(written: str) -> str:
    """To a millionth; beyond what a double tells apart, as it is written."""
    value = float(written)
    if abs(value) < 2**53:
        return f"{value:.6f}"
    whole, _, fraction = written.partition(".")
    return f"{whole}.{fraction}".rstrip("0")


def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"\b(" + "|".join(map(re.escape, words)) + r")\b", re.IGNORECASE)


def _folded(text: str) -> str:
    return " ".join(text.translate(FOLD).lower().split())
