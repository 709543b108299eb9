"""Where a text has template tags, as the engine finds them; and that none is so long that the engine would die of it.

The engine limits how deep brackets and blocks are nested, but not how many operators follow each other: it reads them
one inside the other, and some ten thousand of them, as of `elif`, end the process (minijinja 3.1, on an 8 MB stack).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_CHARACTERS = 2000  # of one tag: no chain in it has a tenth of the links that are too many
MOST_ELIFS = 200  # of one text
_OPENS = re.compile(r"\{[{%#]")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_RAW_ENDS = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_STOPS = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[\[({]|%\}|[\])}]", re.DOTALL)
_ELIF = re.compile(r"\{%[-+]?\s*elif\b")


@dataclass(frozen=True, slots=True)
class Tag:
    """`text` from its opening to its end; to the end of all where it is never closed."""

    offset: int
    text: str


class TagTooLong(ValueError):
    """`offset`: where in the text the tag begins."""

    def __init__(self, offset: int, says: str) -> None:
        self.offset = offset
        super().__init__(says)


def tags(text: str) -> Iterator[Tag]:
    """Expressions and statements; what is in comments and between raw and endraw is neither."""
    place = 0
    while opened := _OPENS.search(text, place):
        start = opened.start()
        if opened[0] == "{#":
            end = text.find("#}", start + 2)
            place = end + 2 if end >= 0 else len(text)
        elif raw := _RAW.match(text, start):
            ends = _RAW_ENDS.search(text, raw.end())
            place = ends.end() if ends else len(text)
        else:
            place = _end(text, start + 2, "}}" if opened[0] == "{{" else "%}")
            yield Tag(start, text[start:place])


def check_tags(text: str) -> None:
    """Raises TagTooLong for what the engine must not be given."""
    elifs = 0
    for tag in tags(text):
        if len(tag.text) > MOST_CHARACTERS:
            says = f"a tag has {len(tag.text):,} characters; {MOST_CHARACTERS:,} is the most"
            raise TagTooLong(tag.offset, f"{says}; is it closed? If it is, part it")
        elifs += _ELIF.match(tag.text) is not None
        if elifs > MOST_ELIFS:
            raise TagTooLong(tag.offset, f"there are more than {MOST_ELIFS} elif; give the text as a variable")


def _end(text: str, place: int, closer: str) -> int:
    """Behind the *closer* of a tag, which does not count inside of strings and brackets."""
    depth = 0
    for stop in _STOPS.finditer(text, place):
        if depth == 0 and text.startswith(closer, stop.start()):
            return stop.start() + len(closer)
        if stop[0] in ("[", "(", "{"):
            depth += 1
        elif stop[0] in ("]", ")", "}"):
            depth = max(depth - 1, 0)
    return len(text)
