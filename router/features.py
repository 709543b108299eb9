"""What can be read off a request before anybody answers it. Text and structure only; no model, no I/O."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import log1p, sqrt

WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# [^\S\n], not \s: a space that ran over line ends would take seconds on a text of empty lines
OPTION = re.compile(r"(?m)^[^\S\n]*(?:\([A-Z]\)|[A-Z][.)]|-)\s")
CHOICE = re.compile(r"(?m)^[^\S\n]*\(?([A-Z])[.):][^\S\n]*(.*)$")
FIRST_CHOICE = re.compile(r"\n[^\S\n]*\(?A[.):]\s")
BEGINS_WITH = re.compile(r"\W{0,3}(-?\d{1,12}(?:,\d{3}){0,4}(?:\.\d{1,12})?)")
CATCH_ALL = re.compile(r"\b(?:none|all|both|neither|cannot|not enough)\b", re.IGNORECASE)
OPERATOR = re.compile(r"[-+*/=<>^]")
SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
CODE_LINE_END = re.compile(r"(?m)[{};]$")
SENTENCE_ENDS = tuple(mark + space for mark in ".!?" for space in " \n")
DIGIT, CAPITAL = re.compile(r"\d"), re.compile(r"[A-Z]")
CENTS = re.compile(r"\$\s?\d[\d,]*\.\d\d")
SHORT_ANSWER = re.compile(r"\b(?:one word|one of|yes or no|true or false|only|single)\b", re.IGNORECASE)
LARGEST = 1e15  # a longer row of digits is no number that anybody reckons with
MOST_NUMBERS = 100  # of a text; later ones tell nothing new
LONG_WORD = 8  # more characters

NEGATIONS = frozenset({"not", "no", "never", "none", "without", "except", "false"})
CONDITIONS = frozenset(
    {"if", "then", "when", "because", "unless", "while", "first", "second", "last", "after", "before"}
)
QUANTITIES = frozenset(
    {"each", "every", "total", "more", "less", "than", "times", "half", "twice", "per", "many", "much"}
)
MONEY = frozenset({"cost", "costs", "price", "pay", "earn", "earns", "spend", "money", "dollars", "bill", "change"})
# How often a question says each of these is a feature of its own.
TOPICS: Mapping[str, frozenset[str]] = {
    "fractions": frozenset({"half", "twice", "third", "quarter", "double", "triple", "percent"}),
    "each": frozenset({"each", "every", "per"}),
    "comparisons": frozenset({"more", "less", "fewer", "older", "younger", "times", "than"}),
    "rest": frozenset({"remain", "remaining", "left", "rest"}),
    "time": frozenset(
        {"hour", "hours", "minute", "minutes", "day", "days", "week", "weeks", "month", "months", "year", "years"}
    ),
    "money": MONEY,
    "negations": frozenset({"not", "except", "false", "never", "least"}),
    "which": frozenset({"which", "following"}),
    "why": frozenset({"why", "how", "explain", "because"}),
    "many": frozenset({"many", "much", "total"}),
    "calculus": frozenset({"find", "calculate", "compute", "determine", "evaluate", "solve"}),
    "law": frozenset({"plaintiff", "defendant", "court", "statute", "contract", "liable", "jury"}),
    "moral": frozenset({"wrong", "moral", "ethical", "standards"}),
    "true": frozenset({"true", "statement", "statements", "correct"}),
}


class Seen:
    """A request's varying text and its fixed text, and what several features look at in them, each read once."""

    def __init__(self, text: str, fixed: str) -> None:
        self.text = text
        self.fixed = fixed
        self.words = [word.lower() for word in WORD.findall(text)]
        self.counts = Counter(self.words)

    @cached_property
    def choices(self) -> Mapping[str, str]:
        return choices_of(self.text)

    @cached_property
    def choice_lengths(self) -> Sequence[float]:
        return [log1p(len(text)) for text in self.choices.values()] or [0.0]

    @cached_property
    def choice_numbers(self) -> Sequence[float]:
        return list(numbers_of(self.choices).values())

    @cached_property
    def question(self) -> str:
        """What stands before the choices."""
        begins = FIRST_CHOICE.search(self.text) if self.choices else None
        return (self.text[: begins.start()] if begins else self.text).rstrip()

    @cached_property
    def last(self) -> str:
        """The question's last sentence."""
        body = self.question.rstrip(".!?")
        begins = max(map(body.rfind, SENTENCE_ENDS))
        return body[begins + 1 :]

    @cached_property
    def numbers(self) -> Sequence[float]:
        """Those of the question, as far as one can reckon with them."""
        written = [number for number in NUMBER.findall(self.question)[:MOST_NUMBERS] if number.count(".") < 2]
        return [min(LARGEST, float(number.replace(",", ""))) for number in written]

    def share(self, of: frozenset[str]) -> float:
        """Of the words, so many are among *of*, 0 to 1."""
        counts = self.counts
        return sum([counts[word] for word in of]) / max(1, len(self.words))

    @cached_property
    def asked(self) -> Mapping[str, int]:
        """How often the question has each word."""
        if len(self.question) == len(self.text.rstrip()):
            return self.counts
        return Counter([word.lower() for word in WORD.findall(self.question)])

    def log_asked(self, of: frozenset[str]) -> float:
        asked = self.asked
        return log1p(sum([asked.get(word, 0) for word in of]))


def choices_of(text: str) -> Mapping[str, str]:
    """The options of a multiple choice by letter."""
    return dict(CHOICE.findall(text))


def numbers_of(choices: Mapping[str, str]) -> Mapping[str, float]:
    """By letter, of those *choices* that begin with a number."""
    begins = {letter: BEGINS_WITH.match(text) for letter, text in choices.items()}
    return {letter: float(found[1].replace(",", "")) for letter, found in begins.items() if found}


def _log_deviation(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    mean = sum(values) / len(values)
    return log1p(sqrt(sum((value - mean) ** 2 for value in values) / len(values)))


FEATURES: Mapping[str, Callable[[Seen], float]] = {
    "log_characters": lambda seen: log1p(len(seen.text)),
    "log_words": lambda seen: log1p(len(seen.words)),
    "word_length": lambda seen: sum(map(len, seen.words)) / max(1, len(seen.words)),
    "long_words": lambda seen: sum(len(word) > LONG_WORD for word in seen.words) / max(1, len(seen.words)),
    "distinct_words": lambda seen: len(seen.counts) / max(1, len(seen.words)),
    "log_lines": lambda seen: log1p(seen.text.count("\n")),
    "log_sentences": lambda seen: log1p(len(SENTENCE_END.findall(seen.text))),
    "log_numbers": lambda seen: log1p(len(NUMBER.findall(seen.text))),
    "digits": lambda seen: len(DIGIT.findall(seen.text)) / max(1, len(seen.text)),
    "log_operators": lambda seen: log1p(len(OPERATOR.findall(seen.text))),
    "parentheses": lambda seen: log1p(seen.text.count("(") + seen.text.count("[")),
    "options": lambda seen: log1p(len(OPTION.findall(seen.text))),
    "questions": lambda seen: log1p(seen.text.count("?")),
    "code": lambda seen: log1p(
        seen.text.count("```") + seen.counts["def"] + seen.counts["return"] + len(CODE_LINE_END.findall(seen.text))
    ),
    "quotes": lambda seen: log1p(seen.text.count('"') + seen.text.count("'")),
    "capitals": lambda seen: len(CAPITAL.findall(seen.text)) / max(1, len(seen.text)),
    "negations": lambda seen: seen.share(NEGATIONS),
    "conditions": lambda seen: seen.share(CONDITIONS),
    "quantities": lambda seen: seen.share(QUANTITIES),
    "choices": lambda seen: log1p(len(seen.choices)),
    "choice_length": lambda seen: sum(seen.choice_lengths) / len(seen.choice_lengths),
    "choice_spread": lambda seen: max(seen.choice_lengths) - min(seen.choice_lengths),
    "choice_numbers": lambda seen: len(seen.choice_numbers) / max(1, len(seen.choices)),
    "choice_number_spread": lambda seen: _log_deviation(seen.choice_numbers),
    "choice_catch_all": lambda seen: float(any(CATCH_ALL.search(text) for text in seen.choices.values())),
    "log_question": lambda seen: log1p(len(seen.question)),
    "log_last": lambda seen: log1p(len(seen.last)),
    "log_question_numbers": lambda seen: log1p(len(seen.numbers)),
    "log_largest": lambda seen: log1p(max(seen.numbers, default=0.0)),
    "not_whole": lambda seen: float(any(number % 1 for number in seen.numbers)),
    "log_over_100": lambda seen: log1p(sum(number > 100 for number in seen.numbers)),
    "dollars": lambda seen: log1p(seen.question.count("$")),
    "cents": lambda seen: float(bool(CENTS.search(seen.question))),
    "asks_money": lambda seen: float(any(word.lower() in MONEY for word in WORD.findall(seen.last))),
    "percents": lambda seen: log1p(seen.question.count("%")),
    "blank": lambda seen: float("__" in seen.question),
    "backslashes": lambda seen: log1p(seen.question.count("\\")),
    "statements": lambda seen: float(" II" in seen.question),
    "colon": lambda seen: float(seen.question.endswith(":")),
    **{f"says_{topic}": (lambda seen, of=of: seen.log_asked(of)) for topic, of in TOPICS.items()},  # type: ignore[misc]
    "fixed_log_characters": lambda seen: log1p(len(seen.fixed)),
    "fixed_short_answer": lambda seen: float(bool(SHORT_ANSWER.search(seen.fixed))),
}


def features(text: str, fixed: str = "") -> tuple[float, ...]:
    """One number per entry of FEATURES, in its order, of a request's varying and its fixed text."""
    seen = Seen(text, fixed)
    return tuple([feature(seen) for feature in FEATURES.values()])
