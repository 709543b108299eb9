"""One YAML file that says JSON: no anchors, tags or dates, and `yes` is a text. Knows where in it each value stands."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prompts.yamlfile import Loc, YamlError, YamlFile, read_as

_PREFIX = "tag:yaml.org,2002:"
_NAMES = ("str", "bool", "int", "float", "null", "timestamp", "map", "seq", "value")
_TAGS = frozenset(_PREFIX + name for name in _NAMES)
_MERGE = _PREFIX + "merge"
_WORDS: dict[str, Any] = {  # yes, no, on and off are words to say
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")  # 012 stays a text: it may be a postcode
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 32  # digits and signs


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read, and its text."""

    file: YamlFile
    text: str

    @property
    def value(self) -> Any:
        return self.file.value

    def position(self, loc: Loc) -> tuple[int, int]:
        """Line and column, both from 1, of what *loc* names, or of what it would be in."""
        return self.file.position(loc)

    def position_within(self, loc: Loc, line: int, column: int) -> tuple[int, int]:
        """Where the file has *line* and *column*, both from 1, of the text at *loc*.

        Of a text that is folded or quoted over several lines: where it begins, as its lines are no lines of the file.
        """
        node = self.file.node(loc)
        if not isinstance(node, yaml.ScalarNode):
            return self.position(loc)
        row, start = node.start_mark.line, node.start_mark.column
        if node.style == "|":  # begins on the next line, indented
            written = self.text.splitlines()[row + line : row + line + 1]
            indent = len(written[0]) - len(written[0].lstrip(" ")) if written else 0
            return row + line + 1, indent + column
        if node.start_mark.line != node.end_mark.line:
            return self.position(loc)
        return row + 1, start + column + bool(node.style)


def parse_plain(path: Path, text: str) -> Document:
    """Raises YamlError, told by *path*, for what is not YAML, has a key twice, or says more than JSON can."""
    return Document(read_as(path, text, None, lambda root: _plain(path, root, set())), text)


def is_plain_text(text: str) -> bool:
    """Whether *text*, written without quotes, is read as a text here."""
    return text not in _WORDS and not _NUMBER.fullmatch(text)


def _plain(path: Path, node: yaml.Node, seen: set[int]) -> Any:
    """Nested no deeper than `read_as` lets pass."""
    if id(node) in seen:
        raise _refused(path, node, "an alias (*name) is not permitted here; write the value again")
    seen.add(id(node))
    if node.tag not in _TAGS:
        raise _refused(path, node, f"the tag {node.tag.removeprefix(_PREFIX)} is not permitted here; leave it out")
    if isinstance(node, yaml.MappingNode):
        return {_key(path, key): _plain(path, value, seen) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item, seen) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(path, node)


def _key(path: Path, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == _MERGE:
        raise _refused(path, node, "a key is a text; merges (<<) and lists are not permitted here")
    return str(node.value)


def _scalar(path: Path, node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style:  # quoted, or a block; a plain one has none, or an empty one
        return text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return text
    if _INTEGER.fullmatch(text):
        if not -(2**63) <= int(text) < 2**64:
            raise _refused(path, node, "has more than 64 bits; put it in quotes to make it a text")
        return int(text)
    value = float(text)
    if abs(value) == float("inf"):
        raise _refused(path, node, "is too large a number; put it in quotes to make it a text")
    return value


def _refused(path: Path, node: yaml.Node, remedy: str) -> YamlError:
    mark = node.start_mark
    return YamlError(f"{path}:{mark.line + 1}:{mark.column + 1}: {remedy}")
