"""Requests whose fixed parts are nearly the same are of one group: a date, an identifier or a name in a system message
does not make a task of its own. Found on line, in bounded memory; no I/O.

A group's key is a hash of what its members have in common and of where they differ, so every process that finds the
same group calls it by the same name, and a group of which more is found to vary is another one that starts without
trust. When in doubt a request stands for itself, which costs money and never quality:

- What has the form of a date, a time, an address or an identifier always varies (VARYING). Other numbers never do:
  "in 5 words" is another task than "in 500".
- A word varies only where nothing else does but one word more, beside FIXED_WORDS that are the same, and only once
  DISTINCT values of it were seen: two tasks, or a dozen, that differ in one word stay apart.
- Fixed parts that are sent OFTEN are tasks of their own, whatever they look like.
- Fixed parts that anything is known of by their own key are never grouped (see `gateway.runtime`).

After Drain (He, Zhu, Zheng and Lyu, "Drain: an online log parsing approach with fixed depth tree", ICWS 2017): by the
number of words first, then by likeness; the other way round in what counts as alike.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any

import orjson

from prompts.message import FIXED_ROLES, TEMPLATE_KEY_HEX_DIGITS

SEEN_LIMIT = 4_096  # fixed parts whose group is remembered; each some 200 bytes
BUCKETS_LIMIT = 512  # of fixed parts with equally many words, of CLUSTERS_LIMIT kinds each
CLUSTERS_LIMIT = 8
ROOM_LIMIT_BYTES = 16 * 2**20  # of all their words; a thousand kinds of usual length, 150 of the longest
TEXT_LIMIT_CHARACTERS = 4_096  # a longer fixed part stands for itself: to look at it would take a millisecond
WORDS_MOST = 2  # that may vary
FIXED_WORDS = 12
DISTINCT = 16
NUMBERS_MOST = 64  # in a fixed part whose dates are looked for; one with more is a table
OFTEN = 32  # times, while it is remembered
POINTER_BYTES = 8  # of a list to each word in it

MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+"
VARYING = re.compile(
    rf"""\b(?:
        [0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}     # a UUID
      | \d{{4}}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?
      | (?:\d\d?[./]){{2}}\d{{4}}
      | (?:{DAY})?(?:{MONTH}\s+\d\d?(?:st|nd|rd|th)?,?\s+\d{{4}}|\d\d?\.?\s+{MONTH}\s+\d{{4}})
      | \d\d?:\d\d(?::\d\d)?(?:\s?[ap]m)?
      | (?<![\w.+-])[\w.+-]{{1,64}}@[\w-]{{1,64}}(?:\.[\w-]{{1,64}}){{1,4}}
      | (?=[0-9a-f]{{0,15}}\d)[0-9a-f]{{16,64}}                                     # a digest
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
NUMBER = re.compile(r"\d+|@")  # one is in all that VARYING finds, and most fixed parts have none
HOLE = "\0"  # in place of what varies; no request that JSON was read from means it as such


@dataclass(slots=True)
class Cluster:
    """Fixed parts alike: `words`, and at each place that varies the values seen there, as hashes, at most DISTINCT.
    `room_bytes`: what the words take.
    """

    words: Sequence[str]
    room_bytes: int
    holes: dict[int, list[int]] = field(default_factory=dict)

    @property
    def is_found(self) -> bool:
        """Every hole has been seen to vary."""
        return all(len(values) >= DISTINCT for values in self.holes.values())

    def takes(self, words: Sequence[str]) -> bool:
        """Whether *words* are alike; then they are a part of it from now on."""
        differs = [p for p, (one, other) in enumerate(zip(self.words, words, strict=True)) if one != other]
        new = [place for place in differs if place not in self.holes]
        if new and self.holes and self.is_found:  # a group that was found is not widened
            return False
        if len(self.holes) + len(new) > WORDS_MOST or len(words) - len(self.holes) - len(new) < FIXED_WORDS:
            return False
        for place in new:
            self.holes[place] = [hash(self.words[place])]
        for place, values in self.holes.items():
            value = hash(words[place])
            if len(values) < DISTINCT and value not in values:
                values.append(value)
        return True

    def common(self) -> list[str]:
        return [HOLE if place in self.holes else word for place, word in enumerate(self.words)]


@dataclass(slots=True)
class Seen:
    """`group` of a fixed part, None while it stands for itself; `times` it was asked for."""

    group: str | None
    times: int = 1


class Groups:
    """The groups of one process, from one thread. `of` takes a fraction of a microsecond for what it remembers."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, int], list[Cluster]] = OrderedDict()
        self._room_bytes = 0  # of all words in them

    def of(self, template: str, body: Mapping[str, Any]) -> str | None:
        """The group of a request whose template key is *template*; None where it stands for itself."""
        seen = self._seen.get(template)
        if seen is None:
            seen = self._seen[template] = Seen(self._find(body))
            if len(self._seen) > SEEN_LIMIT:
                self._seen.popitem(last=False)
            return seen.group
        self._seen.move_to_end(template)
        seen.times += 1
        return seen.group if seen.times <= OFTEN else None

    def _find(self, body: Mapping[str, Any]) -> str | None:
        text = _fixed(body)
        if text is None:
            return None
        masked = VARYING.sub(HOLE, text) if 0 < len(NUMBER.findall(text)) <= NUMBERS_MOST else text
        words = masked.split(" ")
        rest = _hash([body.get("tools"), body.get("response_format")])
        cluster = self._cluster(rest, words)
        if cluster is not None and cluster.holes and cluster.is_found:
            return _hash([cluster.common(), rest])
        return _hash([words, rest]) if masked != text else None

    def _cluster(self, rest: str, words: Sequence[str]) -> Cluster | None:
        """The cluster that takes *words*, a new one where none does; None for too few words."""
        if len(words) < FIXED_WORDS + 1:
            return None
        key = (rest, len(words))
        bucket = self._buckets.setdefault(key, [])
        self._buckets.move_to_end(key)
        taken = next((cluster for cluster in bucket if cluster.takes(words)), None)
        if taken is None:
            taken = Cluster(words, sum(map(getsizeof, words)) + POINTER_BYTES * len(words))
            bucket.append(taken)
            self._room_bytes += taken.room_bytes
            if len(bucket) > CLUSTERS_LIMIT:
                self._room_bytes -= bucket.pop(0).room_bytes
            self._make_room()
        return taken

    def _make_room(self) -> None:
        """Forget the buckets that were used longest ago; never the last one used, which fits."""
        while len(self._buckets) > BUCKETS_LIMIT or self._room_bytes > ROOM_LIMIT_BYTES:
            _, forgotten = self._buckets.popitem(last=False)
            self._room_bytes -= sum(cluster.room_bytes for cluster in forgotten)


def _fixed(body: Mapping[str, Any]) -> str | None:
    """The fixed messages as one text; None where they are more than text, or too long."""
    parts = []
    for message in body["messages"]:
        if message.get("role") in FIXED_ROLES:
            content = message.get("content")
            if not isinstance(content, str):
                return None
            parts.append(f"{message['role']}\x1f{content}")
    text = "\x1e".join(parts)
    return text if 0 < len(text) <= TEXT_LIMIT_CHARACTERS and HOLE not in text else None


def _hash(fixed: object) -> str:
    return hashlib.sha256(orjson.dumps(fixed, option=orjson.OPT_SORT_KEYS)).hexdigest()[:TEMPLATE_KEY_HEX_DIGITS]
