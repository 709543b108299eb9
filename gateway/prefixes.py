"""Which beginnings of prompts each model has read lately, as far as this process knows: what its engine's prompt cache
may have. Sizes and times are kept, and no text.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from time import monotonic
from typing import Any

import orjson

from prompts.message import FIXED_ROLES, Message, text_of

PREFIX_SECONDS = 300.0  # what hosted caches promise since the last use; those of local engines are bounded by room
PREFIXES_LIMIT = 8_192  # the ones used last; each some 600 bytes, so 5 MB
OPENING_CHARACTERS = 1_024  # of a conversation's first turn, by which it is known again


@dataclass(slots=True)
class Prefix:
    """A beginning that requests share, in bytes of JSON. `uses`: how many of them there were lately, fading. `read`: by
    model, when it was read last and how long it was then.
    """

    bytes: int
    uses: float
    at: float
    read: dict[str, tuple[float, int]] = field(default_factory=dict)

    def uses_by(self, now: float) -> float:
        return self.uses * exp((self.at - now) / PREFIX_SECONDS)


class Prefixes:
    """From one thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Hashable, Prefix] = OrderedDict()

    @property
    def now(self) -> float:
        return self._clock()

    def of(self, template: str | None, body: Mapping[str, Any]) -> Sequence[Prefix]:
        """Those that *body* begins with and that were read before, longest first."""
        messages = body["messages"]
        found: list[Prefix] = []
        for message in messages:
            if message.get("role") == "assistant":
                if (opening := self._known.get(_opening(template, messages))) is not None:
                    found.append(opening)
                break
        if template is not None and (fixed := self._known.get(template)) is not None:
            found.append(fixed)
        return found

    def note(self, template: str | None, body: Mapping[str, Any], body_bytes: int, model: str) -> int:
        """*model* reads a prompt: whole for the next turn of its conversation, in its fixed part for its template.
        Returns how many bytes of it were warm.
        """
        now = self._clock()
        warm = warm_bytes(self.of(template, body), model, now)
        self._note(_opening(template, body["messages"]), body_bytes, model, now)
        if template is not None:
            known = self._known.get(template)
            self._note(template, known.bytes if known else _fixed_bytes(body), model, now)
        while len(self._known) > PREFIXES_LIMIT:
            self._known.popitem(last=False)
        return warm

    def _note(self, key: Hashable, length_bytes: int, model: str, now: float) -> None:
        prefix = self._known.get(key)
        if prefix is None:
            prefix = self._known[key] = Prefix(length_bytes, 0.0, now)
        else:
            self._known.move_to_end(key)
        prefix.uses, prefix.at, prefix.bytes = prefix.uses_by(now) + 1, now, length_bytes
        prefix.read[model] = now, length_bytes


def warm_bytes(prefixes: Sequence[Prefix], model: str, now: float) -> int:
    """How many bytes of a prompt that begins with *prefixes* its cache still has."""
    for prefix in prefixes:
        read = prefix.read.get(model)
        if read is not None and now - read[0] < PREFIX_SECONDS:
            return read[1]
    return 0


def shared_bytes(prefixes: Sequence[Prefix], model: str, now: float) -> float:
    """How many bytes it need not read on average over the requests that come with the same beginning.

    Where nothing is warm, this request reads the whole beginning for all that follow: of n within PREFIX_SECONDS n - 1
    find it read. Would the first one bear all of it, requests would stay for ever with a dear model that is warm, and
    never warm up a cheap one.
    """
    warm = warm_bytes(prefixes, model, now)
    if warm or not prefixes:
        return warm
    longest = prefixes[0]
    return longest.bytes * (1 - 1 / (1 + longest.uses_by(now)))


def _opening(template: str | None, messages: Sequence[Message]) -> Hashable:
    """A conversation's name: its template and how its first turn begins."""
    for message in messages:
        if message.get("role") not in FIXED_ROLES:
            return template, hash(text_of(message)[:OPENING_CHARACTERS])
    return template, None


def _fixed_bytes(body: Mapping[str, Any]) -> int:
    fixed = [m for m in body["messages"] if m.get("role") in FIXED_ROLES]
    return len(orjson.dumps([fixed, body.get("tools")]))
