"""One YAML file, read so that every mistake in it can be told by file, line and key. Knows YAML, variables and what
pydantic complains about; not what the keys mean.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Loc = tuple[int | str, ...]

# libyaml's where PyYAML was built with it: ten times as fast.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_VARIABLE = re.compile(r"\$(\$)?\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_START = yaml.Mark("", 0, 0, 0, None, 0)
MOST_LEVELS = 64  # a settings file needs eight
SHOWN_CHARACTERS = 80  # of a wrong value

# What pydantic calls a mistake -> what we do, with its own numbers filled in.
_SAYINGS = {
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "literal_error": "must be one of: {expected}",
    "missing": "is required, and not there",
}
_WITHOUT_VALUE = frozenset({"missing", "extra_forbidden", "too_short"})  # a forbidden key may hold a secret


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where in the document, what it holds (None: not to be shown), and the remedy."""

    loc: Loc
    holds: str | None
    remedy: str


class YamlError(ValueError):
    """A file cannot be used; the message has a line for every mistake in it."""


@dataclass(frozen=True, slots=True)
class YamlFile:
    """`value` is what the file says, with variables filled in; `root` is its syntax tree, which knows the lines."""

    path: Path
    value: Any
    root: yaml.Node | None
    written: Mapping[int, str]  # by the id of its node in `root`: the text of a value that had a variable filled in

    def line(self, loc: Loc) -> int:
        """The line, from 1, of what *loc* names; of what it would be in where there is no such thing."""
        return self._find(loc)[0].line + 1

    def position(self, loc: Loc) -> tuple[int, int]:
        """Line and column, both from 1, of what `line` says the line of."""
        mark = self._find(loc)[0]
        return mark.line + 1, mark.column + 1

    def has(self, loc: Loc) -> bool:
        return self._find(loc)[2]

    def text(self, loc: Loc) -> str | None:
        """What the file says at *loc* before variables were filled in; None where it is not a single value."""
        _, node, exact = self._find(loc)
        if not exact or not isinstance(node, yaml.ScalarNode):
            return None
        return self.written.get(id(node), str(node.value))

    def tell(self, problem: Problem) -> str:
        """`pointsman.yaml:12: models.0.tier: -1: must be 0 or more`"""
        holds = problem.holds
        if holds is not None and "${" in (text := self.text(problem.loc) or ""):
            holds = text  # the variable's name, never the secret it holds
        where = ".".join(map(str, problem.loc))
        said = ": ".join(filter(None, (f"{self.path}:{self.line(problem.loc)}", where, holds, problem.remedy)))
        return one_line(said)

    def tell_all(self, problems: list[Problem]) -> str:
        return "\n".join(self.tell(p) for p in sorted(problems, key=lambda p: self.line(p.loc)))

    def node(self, loc: Loc) -> yaml.Node | None:
        _, node, exact = self._find(loc)
        return node if exact else None

    def _find(self, loc: Loc) -> tuple[yaml.Mark, yaml.Node | None, bool]:
        """The place, the node, and whether all of *loc* is there. Parts that only pydantic knows are passed over."""
        node, exact = self.root, True
        mark = node.start_mark if node else _START
        for part in loc:
            child = _child(node, part)
            exact = child is not None
            if child is not None:
                mark, node = child[0].start_mark, child[1]
        return mark, node, exact


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that stands first on the line, and the one of the value."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def read_yaml(path: Path, variables: Mapping[str, str] | None = os.environ) -> YamlFile:
    """Read *path* with `${NAME}` filled in from *variables*; None leaves it as it is. `$${NAME}` stands for `${NAME}`.

    Raises OSError; YamlError for what is not YAML, for a key given twice and for a variable that is not set.
    """
    try:
        return parse_yaml(path, path.read_text(encoding="utf-8"), variables)
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: not valid YAML: not UTF-8 at byte {error.start}") from error


def parse_yaml(path: Path, text: str, variables: Mapping[str, str] | None = os.environ) -> YamlFile:
    """As `read_yaml`, of a text that is not read from *path*."""
    return read_as(path, text, variables, _value)


def read_as(
    path: Path, text: str, variables: Mapping[str, str] | None, value_of: Callable[[yaml.Node], Any]
) -> YamlFile:
    """As `parse_yaml`; *value_of* makes the value of the syntax tree, and may raise what YAML or this module does."""
    try:
        _measure(path, text)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
        written: dict[int, str] = {}
        problems = list(_walk(root, variables, written)) if root else []
        if problems:
            raise YamlError(YamlFile(path, None, root, written).tell_all(problems))
        value = value_of(root) if root else None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise YamlError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise YamlError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except YamlError:
        raise
    except ValueError as error:  # 2024-13-45, which YAML takes for a date
        raise YamlError(f"{path}: not valid YAML: {error}") from error
    return YamlFile(path, value, root, written)


def _value(root: yaml.Node) -> Any:
    return _Loader("").construct_document(root)


def _measure(path: Path, text: str) -> None:
    """libyaml's composer recurses without a limit, and ends the process where the stack does."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS and event.start_mark:
            raise YamlError(f"{path}:{event.start_mark.line + 1}: not valid YAML: more than {MOST_LEVELS} levels deep")


def _walk(root: yaml.Node, variables: Mapping[str, str] | None, written: dict[int, str]) -> Iterator[Problem]:
    """Fill in variables, in place, and find what YAML itself lets pass. Each node once, however often it is named."""
    seen: set[int] = set()
    waiting: list[tuple[Loc, yaml.Node]] = [((), root)]
    while waiting:
        loc, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*loc, place), item) for place, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE):
                line = key.start_mark.line + 1
                if first.setdefault(key.value, line) != line:
                    yield Problem((*loc, key.value), None, f"is there again on line {line}; keep one")
            waiting += [((*loc, key.value), value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        elif variables is not None and node.tag == _STRING and "${" in node.value:
            written[id(node)] = node.value
            for name in _unset(node.value, variables):
                yield Problem(loc, None, _how_to_set(name))
            node.value = _filled(node.value, variables)


def _unset(text: str, variables: Mapping[str, str]) -> list[str]:
    names = [name for dollar, name in _VARIABLE.findall(text) if not dollar]
    return [name for name in dict.fromkeys(names) if not variables.get(name)]


def _filled(text: str, variables: Mapping[str, str]) -> str:
    def fill(found: re.Match[str]) -> str:
        return found[0][1:] if found[1] else variables.get(found[2], "")

    return _VARIABLE.sub(fill, text)


def _how_to_set(name: str) -> str:
    if _NAME.fullmatch(name):
        return f"the environment variable {name} is not set; set it, or write $${{{name}}} for the text itself"
    return f"${{{name}}} is not the name of an environment variable: letters, digits and _ only"


def problems_in(kind: type[BaseModel], error: ValidationError) -> list[Problem]:
    """What pydantic found wrong with a value for *kind*, in our words."""
    return [_problem(kind, details) for details in error.errors(include_url=False)]


def _problem(kind: type[BaseModel], details: ErrorDetails) -> Problem:
    loc, sort = details["loc"], details["type"]
    context = details.get("ctx", {})
    if sort == "extra_forbidden":
        remedy = f"not permitted here{_nearest(str(loc[-1]), _keys_at(kind, loc[:-1]))}"
    elif sort == "value_error":
        remedy = str(context["error"])
    else:
        remedy = _SAYINGS[sort].format(**context) if sort in _SAYINGS else details["msg"]
    value = details["input"]
    is_shown = sort not in _WITHOUT_VALUE and not isinstance(value, dict | list | tuple)
    return Problem(loc, shown(value) if is_shown else None, remedy)


def shown(value: object) -> str:
    """A wrong value as it may be shown: short, and without what may be a password."""
    text = "nothing" if value is None else repr(value)
    if "://" in text and "@" in text:
        text = "'..." + text[text.rindex("@") :]  # what stands before it may be a password
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def one_line(text: str) -> str:
    """A key or a value may hold what would end a line, or move the cursor of a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _nearest(key: str, keys: frozenset[str]) -> str:
    if key in ("api_key", "key", "token", "password") and "api_key_env" in keys:
        return "; keys stay out of files: api_key_env names the environment variable that holds it"
    near = difflib.get_close_matches(key, sorted(keys), n=1) or [name for name in sorted(keys) if name.startswith(key)]
    return f"; did you mean {near[0]}?" if near else f"; keys are: {', '.join(sorted(keys))}" if keys else ""


def _keys_at(kind: object, loc: Loc) -> frozenset[str]:
    """The keys of the model that *loc* leads to from the type *kind*; none where that cannot be told."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        if not loc:
            return frozenset(fields)
        field = fields.get(str(loc[0]))
        return _keys_at(field.annotation, loc[1:]) if field else frozenset()
    is_container = isinstance(origin := get_origin(kind), type) and issubclass(origin, tuple | list | dict | Mapping)
    rest = loc[1:] if is_container else loc
    return frozenset().union(*(_keys_at(argument, rest) for argument in get_args(kind)))
