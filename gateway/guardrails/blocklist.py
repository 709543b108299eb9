"""Words and phrases that may not be said. Knows letters, not meanings: who writes a word otherwise is not stopped."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from gateway.guardrails.rail import Finding, Guardrail, RailSection

WORD_LIMIT_CHARACTERS = 100  # the pattern is nested as deep as the longest word, and a stream held back as far
WORDS_LIMIT = 100_000
SPACES_LIMIT = 3  # between the words of a phrase
LABEL = "BLOCKED"
Tree = dict[str, "Tree"]


class Blocklist(RailSection):
    """Words or phrases, in capitals or not, as whole words."""

    kind: Literal["blocklist"]
    words: tuple[str, ...] = Field(default=(), description="words and phrases")
    file: Path | None = Field(default=None, description="more of them, one a line; lines that begin with # say nothing")

    def rail(self) -> Guardrail:
        words = [*self.words, *(_read(self.file) if self.file is not None else ())]
        return Guardrail("blocklist", [Words(words)], self.applies_to, self.action)


class Words:
    """Finds whole words of a list, the longest that begins at a place."""

    def __init__(self, words: Iterable[str]) -> None:
        listed = {" ".join(word.lower().split()) for word in words} - {""}
        if not listed:
            raise ValueError("a blocklist needs words: list them under 'words' or name a 'file' that has some")
        if len(listed) > WORDS_LIMIT:
            raise ValueError(f"a blocklist may have {WORDS_LIMIT:,} words; this one has {len(listed):,}")
        longest = max(listed, key=len)
        if len(longest) > WORD_LIMIT_CHARACTERS:
            raise ValueError(f"{longest[:30]!r}... is longer than the {WORD_LIMIT_CHARACTERS} characters of a word")
        self._pattern = re.compile(rf"(?<!\w){_written(_tree(listed))}(?!\w)", re.IGNORECASE)
        self._inside = re.compile(f"[{re.escape(''.join(sorted(set().union(*listed))))}\\s]", re.IGNORECASE)
        spaces = max(word.count(" ") for word in listed)
        self.reach_characters = len(longest) + spaces * (SPACES_LIMIT - 1) + 1  # and the character behind it
        self._has_spaces = spaces > 0

    def inside(self, character: str) -> bool:
        return (self._has_spaces or not character.isspace()) and self._inside.match(character) is not None

    def find(self, text: str, start: int) -> Finding | None:
        match = self._pattern.search(text, start)
        return Finding(match.start(), match.end(), LABEL) if match else None


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the blocklist {path} cannot be read: {error}") from error
    return [line for line in lines if not line.startswith("#")]


def _tree(words: Iterable[str]) -> Tree:
    """Words by their letters; an empty letter ends one."""
    tree: Tree = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return tree


def _written(tree: Tree) -> str:
    """As a pattern that looks at each letter once; Python tries the words of a plain alternative one by one."""
    branches = [_letter(letter) + _written(below) for letter, below in sorted(tree.items()) if letter]
    if not branches:
        return ""
    if len(branches) == 1 and "" not in tree:
        return branches[0]
    return f"(?:{'|'.join(branches)}){'?' if '' in tree else ''}"


def _letter(letter: str) -> str:
    return rf"\s{{1,{SPACES_LIMIT}}}" if letter == " " else re.escape(letter)
