"""What can be read off a request before anybody answers it. Text and structure only; no model, no I/O."""

import re
from collections.abc import Callable, Mapping
from math import log1p
from typing import Any

from prompts.message import fixed_text, varying_text

LIMIT_CHARACTERS = (
    4096  # of each text; keeps a decision under a millisecond however long the prompt is (EXPERIMENTS.md, 12)
)
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# [^\S\n], not \s: a space that ran over line ends would take seconds on a text of empty lines
OPTION = re.compile(r"(?m)^[^\S\n]*(?:\([A-Z]\)|[A-Z][.)]|-)\s")
OPERATOR = re.compile(r"[-+*/=<>^]")
SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
CODE = re.compile(r"```|\bdef \w+\(|\breturn\b|[{};]\s*$", re.MULTILINE)
NEGATIONS = frozenset({"not", "no", "never", "none", "without", "except", "false"})
CONDITIONS = frozenset(
    {"if", "then", "when", "because", "unless", "while", "first", "second", "last", "after", "before"}
)
QUANTITIES = frozenset(
    {"each", "every", "total", "more", "less", "than", "times", "half", "twice", "per", "many", "much"}
)
SHORT_ANSWER = re.compile(r"\b(?:one word|one of|yes or no|true or false|only|single)\b", re.IGNORECASE)


def _share(words: list[str], of: frozenset[str]) -> float:
    return sum(word in of for word in words) / max(1, len(words))


# name -> (varying text, its words in lower case, fixed text) -> value
FEATURES: Mapping[str, Callable[[str, list[str], str], float]] = {
    "log_characters": lambda text, words, fixed: log1p(len(text)),
    "log_words": lambda text, words, fixed: log1p(len(words)),
    "word_length": lambda text, words, fixed: sum(map(len, words)) / max(1, len(words)),
    "distinct_words": lambda text, words, fixed: len(set(words)) / max(1, len(words)),
    "log_lines": lambda text, words, fixed: log1p(text.count("\n")),
    "log_sentences": lambda text, words, fixed: log1p(len(SENTENCE_END.findall(text))),
    "log_numbers": lambda text, words, fixed: log1p(len(NUMBER.findall(text))),
    "digits": lambda text, words, fixed: sum(c.isdigit() for c in text) / max(1, len(text)),
    "log_operators": lambda text, words, fixed: log1p(len(OPERATOR.findall(text))),
    "parentheses": lambda text, words, fixed: log1p(text.count("(") + text.count("[")),
    "options": lambda text, words, fixed: log1p(len(OPTION.findall(text))),
    "questions": lambda text, words, fixed: log1p(text.count("?")),
    "code": lambda text, words, fixed: log1p(len(CODE.findall(text))),
    "quotes": lambda text, words, fixed: log1p(text.count('"') + text.count("'")),
    "capitals": lambda text, words, fixed: sum(c.isupper() for c in text) / max(1, len(text)),
    "negations": lambda text, words, fixed: _share(words, NEGATIONS),
    "conditions": lambda text, words, fixed: _share(words, CONDITIONS),
    "quantities": lambda text, words, fixed: _share(words, QUANTITIES),
    "fixed_log_characters": lambda text, words, fixed: log1p(len(fixed)),
    "fixed_short_answer": lambda text, words, fixed: float(bool(SHORT_ANSWER.search(fixed))),
}


def features(body: Mapping[str, Any]) -> tuple[float, ...]:
    """One number per entry of FEATURES, in its order. *body* is a chat-completions request."""
    text = varying_text(body["messages"])[-LIMIT_CHARACTERS:]
    fixed = fixed_text(body["messages"])[:LIMIT_CHARACTERS]
    words = [word.lower() for word in WORD.findall(text)]
    return tuple(feature(text, words, fixed) for feature in FEATURES.values())
