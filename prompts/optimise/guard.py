"""Which candidates are not tried at all, before one costs a call: those that could not be served, those that read other
variables than the text they replace, those that are too long, and those that quote a held-out case.

Of held-out cases it keeps hashes of their runs of words, so that nothing of them can be read here.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from prompts.check import errors, used_by
from prompts.optimise.candidate import Candidate, characters, draft
from prompts.render import RenderFailed, render
from prompts.suite import Case
from prompts.template import Placeholder, Template

RUN_WORDS = 6  # as long as most of a short sentence: nobody writes the same by chance
FEWEST_WORDS = 3  # of a whole text that is shorter than a run
MOST_CHARACTERS = 8_000  # some 2,000 tokens that every request of the tier pays for
_WORD = re.compile(r"\w+")


class Guard:
    """*held_out*: cases that a candidate may not quote. *rendered*: cases that it must be able to say."""

    def __init__(
        self,
        template: Template,
        tier: str,
        *,
        held_out: Iterable[Case],
        rendered: Iterable[Case],
        most_characters: int = MOST_CHARACTERS,
    ) -> None:
        self._template, self._tier = template, tier
        self._rendered = tuple(rendered)
        self._seed = template.parts(template.variant(tier))
        self._most = max(most_characters, characters(self._seed))
        self._used = used_by(template, template.variant(tier))
        self._unseen = _unseen(held_out, _all(self._seed))

    def problem(self, candidate: Candidate) -> str | None:
        """Why *candidate* is not tried, in words that whoever writes the next one can use; None where it is."""
        if (length := characters(candidate)) > self._most:
            return f"it has {length:,} characters, and {self._most:,} is the most: say it shorter"
        if [type(part) for part in candidate].count(Placeholder) != [type(p) for p in self._seed].count(Placeholder):
            return "it has lost the place of the client's messages"
        made = draft(self._template, self._tier, candidate)
        if found := errors(made):
            return f"it could not be served: {found[0]}"
        used = used_by(made, self._tier)
        if dropped := sorted(self._used - used):
            return f"it no longer reads {', '.join(dropped)}: keep {{{{ {dropped[0]} }}}} where it stands"
        if invented := sorted(used - self._used):
            return f"it reads {', '.join(invented)}, which the text it replaces does not: take it out"
        if any(_runs(_all(candidate), length) & runs for length, runs in self._unseen.items()):
            return "it quotes a case that is held out: say what holds for all inputs"
        return self._unrendered(made)

    def _unrendered(self, made: Template) -> str | None:
        for case in self._rendered:
            try:
                render(made, self._tier, case.vars, case.messages)
            except RenderFailed as error:
                return f"it cannot be rendered: {error.says}"
        return None


def _all(candidate: Candidate) -> str:
    return "\n".join(part.content for part in candidate if not isinstance(part, Placeholder))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _unseen(cases: Iterable[Case], own: str) -> dict[int, frozenset[int]]:
    """Hashes of runs of words of *cases* that *own* has not, by their length: RUN_WORDS, or all of a shorter text."""
    found: dict[int, set[int]] = {}
    for case in cases:
        for text in _texts(case.vars):
            length = min(RUN_WORDS, len(_WORD.findall(text)))
            if length >= FEWEST_WORDS:
                found.setdefault(length, set()).update(_runs(text, length))
    return {length: frozenset(runs - _runs(own, length)) for length, runs in found.items()}


def _runs(text: str, length: int) -> frozenset[int]:
    words = _WORD.findall(text.casefold())
    return frozenset(hash(tuple(words[start : start + length])) for start in range(len(words) - length + 1))
