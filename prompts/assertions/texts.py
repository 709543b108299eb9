"""Assertions about the text of an answer. Exact, and linear in its length.

`equals` and `one-of` are for answers that a program reads: case and punctuation count, space around the text does not.
`final-answer` and `number` grade as the ladder does (`prompts/grade.py`): what follows the last "Answer:", folded; the
last number.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

from prompts import grade
from prompts.assertions.kind import Assertion, Given, Kind, Verdict, a_text, not_evaluated, short, texts
from prompts.canonical import canonical
from prompts.compare import Json
from prompts.schemas import matcher

_JSON = Json()


def _equals(text: str, value: Any) -> bool:
    """A text equals itself; what is no text equals the JSON that says the same, 1.0 and 1 too."""
    if isinstance(value, str):
        return text.strip() == value.strip()
    return _JSON.takes(text) and _JSON.same(canonical(value).decode(), text)


def _equality(assertion: Assertion, given: Given) -> Verdict:
    passed = _equals(given.answer.text, assertion.value)
    return Verdict(passed, f"{'is' if passed else 'is not'} {short(assertion.value)}")


def _one_of(assertion: Assertion, given: Given) -> Verdict:
    passed = any(_equals(given.answer.text, value) for value in assertion.value)
    return Verdict(passed, f"{'is' if passed else 'is not'} one of {short(assertion.value)}")


def _occurrence(fold: Callable[[str], str], enough: Callable[[list[bool]], bool], how: str) -> Kind:
    """A kind that looks for one text, or for several of which it needs *how* many."""

    def check(assertion: Assertion, given: Given) -> Verdict:
        wanted = assertion.value if how else [assertion.value]
        text = fold(given.answer.text)
        found = [fold(value) in text for value in wanted]
        passed = enough(found)
        if passed or not how:
            return Verdict(passed, f"{'contains' if passed else 'does not contain'} {how}{short(assertion.value)}")
        missing = [value for value, is_there in zip(wanted, found, strict=True) if not is_there]
        return Verdict(False, f"does not contain {short(missing)}")

    return Kind(texts if how else a_text, check)


def _start(assertion: Assertion, given: Given) -> Verdict:
    passed = given.answer.text.lstrip().startswith(assertion.value.lstrip())
    return Verdict(passed, f"{'starts' if passed else 'does not start'} with {short(assertion.value)}")


def _pattern(assertion: Assertion, given: Given) -> Verdict:
    passed = matcher(assertion.value).accepts(given.answer.text, len(given.answer.text))
    if passed is None:
        return not_evaluated("the pattern is too much work for an answer of this length; simplify it")
    return Verdict(passed, f"{'matches' if passed else 'does not match'} {short(assertion.value)}")


def _final_answer(assertion: Assertion, given: Given) -> Verdict:
    wanted = assertion.value if isinstance(assertion.value, list) else [assertion.value]
    passed = any(grade.exact(given.answer.text, value) for value in wanted)
    return Verdict(passed, f"the final answer {'is' if passed else 'is not'} {short(assertion.value)}")


def _number(assertion: Assertion, given: Given) -> Verdict:
    said = grade.said("number", given.answer.text)
    if not said:
        return Verdict(False, "has no number")
    off_by = abs(float(said) - assertion.value)
    passed = off_by <= (assertion.tolerance or 0.0) + grade.NUMBER_TOLERANCE
    within = f" within {assertion.tolerance:g}" if assertion.tolerance else ""
    return Verdict(passed, f"the last number {'is' if passed else 'is not'} {assertion.value:g}{within}")


def _comparable(value: Any) -> None:
    if value is None or isinstance(value, bool):
        raise ValueError("needs a value; put true, false, yes and no in quotes: YAML reads them as no text")


def _choices(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise ValueError("needs a list as value")
    for one in value:
        _comparable(one)


def _text_or_texts(value: Any) -> None:
    (texts if isinstance(value, list) else a_text)(value)
    for one in value if isinstance(value, list) else [value]:
        if not grade.said("exact", one):
            raise ValueError("needs a value with a letter or a digit: case and punctuation are folded away")


def _a_pattern(value: Any) -> None:
    a_text(value)
    matcher(value)


def _a_number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("needs a number as value")


KINDS: dict[str, Kind] = {
    "equals": Kind(_comparable, _equality),
    "one-of": Kind(_choices, _one_of),
    "contains": _occurrence(str, all, ""),
    "icontains": _occurrence(str.casefold, all, ""),
    "contains-any": _occurrence(str, any, "any of "),
    "contains-all": _occurrence(str, all, "all of "),
    "icontains-any": _occurrence(str.casefold, any, "any of "),
    "icontains-all": _occurrence(str.casefold, all, "all of "),
    "starts-with": Kind(a_text, _start),
    "regex": Kind(_a_pattern, _pattern),
    "final-answer": Kind(_text_or_texts, _final_answer),
    "number": Kind(_a_number, _number, takes_tolerance=True),
}
