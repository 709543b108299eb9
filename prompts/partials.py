"""Which partials a text includes. Knows the one way to write that, and refuses the others."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prompts.tags import tags
from prompts.template import NAME

PARTIAL = re.compile(rf"{NAME}(?:/{NAME}){{0,3}}")
# Whatever reads another template. An include is the only one, as partials are text, not programs.
_READS = re.compile(r"\{%[-+]?\s*(include|import|from|extends|block)\b")
_INCLUDE = re.compile(r"\{%[-+]?\s*include\s*(\"|')([^\"'\n]{1,300})\1\s*[-+]?%\}")
HOW = 'write {% include "name" %}, with the name of a file in _partials/'


@dataclass(frozen=True, slots=True)
class Include:
    """`name` is None where the text asks for something other than one partial by its name."""

    name: str | None
    offset: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with an include, and where in the text that was looked at it stands."""

    offset: int
    remedy: str


def includes(text: str) -> Iterator[Include]:
    for tag in tags(text):
        if _READS.match(tag.text):
            named = _INCLUDE.fullmatch(tag.text)
            yield Include(named[2] if named else None, tag.offset)


def included(texts: Iterable[str], partials: Mapping[str, str]) -> dict[str, str]:
    """Those of *partials* that *texts* include, or that these include; unknown ones are left out."""
    used: dict[str, str] = {}
    waiting = list(texts)
    while waiting:
        names = {include.name for include in includes(waiting.pop()) if include.name is not None}
        for name in names & partials.keys() - used.keys():
            used[name] = partials[name]
            waiting.append(partials[name])
    return used


def wrong_includes(text: str, partials: Collection[str]) -> Iterator[Wrong]:
    """What *text* cannot include. *partials*: the names that there are."""
    for include in includes(text):
        if include.name is None:
            yield Wrong(include.offset, f"a template reads nothing but partials, by name; {HOW}")
        elif include.name not in partials:
            near = difflib.get_close_matches(include.name, sorted(partials), n=1)
            known = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(partials)) or 'none'}"
            yield Wrong(include.offset, f"there is no partial {include.name!r}; {known}")


def circles(partials: Mapping[str, str]) -> Iterator[tuple[str, Wrong]]:
    """Each include by which partials come back to one that has led there, with the partial that it stands in."""
    finished: set[str] = set()
    for start in sorted(partials):
        path: list[tuple[str, Iterator[Include]]] = []
        if start not in finished:
            path.append((start, includes(partials[start])))
        while path:
            name, left = path[-1]
            include = next((i for i in left if i.name in partials and i.name not in finished), None)
            if include is None or include.name is None:
                finished.add(name)
                path.pop()
                continue
            above = [partial for partial, _ in path]
            if include.name in above:
                circle = " -> ".join([*above[above.index(include.name) :], include.name])
                yield name, Wrong(include.offset, f"partials include each other in a circle: {circle}; take one out")
            else:
                path.append((include.name, includes(partials[include.name])))
