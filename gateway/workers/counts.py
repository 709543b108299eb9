"""Metrics that several processes count and any of them can tell. Knows prometheus-client's values, not who counts what.

Each process counts in memory of its own (a region), which all of them map. Counting is a store to memory; whoever is
scraped adds the regions up. A region outlives its process: who takes its place counts on from there, so that no counter
goes back, whatever became of the process.
"""

import mmap
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import prometheus_client.values
import structlog

log = structlog.get_logger(__name__)

VALUES_LIMIT = 2**18  # of one process: 3,000 models with every label; a fresh region takes no memory for them
KEYS_LIMIT_BYTES = 64 * 2**20  # their names, 150 bytes each
HEAD_BYTES = 8  # how many bytes of keys there are
KEYS_START = HEAD_BYTES + 8 * VALUES_LIMIT
REGION_BYTES = KEYS_START + KEYS_LIMIT_BYTES
KEYS_PER_STEP = 100  # read between two looks at the event loop, a millisecond
BUCKET = "_bucket"
MAXIMUM = "livemax"  # of the living; `livesum` is their sum, everything else the sum of all there ever were
OWN = "livemostrecent"  # whoever is scraped has just set it
SUM = "sum"  # a gauge's, of what is counted since the start
LIVE = "live"


@dataclass(frozen=True, slots=True)
class Key:
    """One value: `name` is that of the sample, `labels` its label values, a bucket's bound the last of them.

    `mode`: prometheus-client's word for how a gauge is put together; empty for what is no gauge.
    """

    family: str
    name: str
    labels: tuple[str, ...]
    mode: str

    @property
    def child(self) -> tuple[str, ...]:
        """The label values of the metric that it belongs to."""
        return self.labels[:-1] if self.name == self.family + BUCKET else self.labels


class Child(Protocol):
    def of(self, *labels: str) -> object: ...


class Region:
    """The values of one process, in a file without a name. One process writes, all read."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, REGION_BYTES)
        view = memoryview(self._memory)
        self._head = view[:HEAD_BYTES].cast("q")
        self.values = view[HEAD_BYTES:KEYS_START].cast("d")
        self._end = KEYS_START  # of the keys that we have read or written
        self._places: dict[Key, int] = {}

    @classmethod
    def make(cls) -> "Region":
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("pointsman metrics")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.truncate(descriptor, REGION_BYTES)
        return cls(descriptor)

    def news(self) -> Iterator[tuple[Key, int]]:
        """The keys that were not there before, each with its place among the values."""
        while self._end < KEYS_START + self._head[0]:
            start, self._end = self._end, self._memory.find(b"\n", self._end) + 1
            family, name, labels, mode = orjson.loads(self._memory[start : self._end])
            key = Key(family, name, tuple(labels), mode)
            self._places[key] = len(self._places)
            yield key, self._places[key]

    def place(self, key: Key) -> int | None:
        """For the one process that writes; None when there is no room for another value."""
        if key not in self._places:
            line = orjson.dumps([key.family, key.name, key.labels, key.mode], option=orjson.OPT_APPEND_NEWLINE)
            end = self._end + len(line)
            if len(self._places) == VALUES_LIMIT or end > REGION_BYTES:
                return None
            self._memory[self._end : end] = line
            self._end = end
            self._head[0] = end - KEYS_START  # after the key is there: others read up to here
            self._places[key] = len(self._places)
        return self._places[key]

    def forget_living(self) -> None:
        """The process is dead: what it was doing, it does no longer; what it has counted stays."""
        for _ in self.news():
            pass
        for key, place in self._places.items():
            if key.mode.startswith(LIVE):
                self.values[place] = 0.0


class Value:
    """One number, in place of prometheus-client's own, whose lock costs more than the counting: one thread counts.

    Counting touches our own region alone; `get` is of all. What is set to a sum since the start comes on top of what
    the processes before us, in the same region, have left.
    """

    __slots__ = ("_base", "_maximum", "_others", "_place", "_values")

    def __init__(self, values: Any, place: int, others: list[tuple[Any, int]], mode: str) -> None:
        self._values = values
        self._place = place
        self._others = [] if mode == OWN else others
        self._maximum = mode == MAXIMUM
        self._base = values[place] if mode == SUM else 0.0

    def inc(self, amount: float) -> None:
        self._values[self._place] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        self._values[self._place] = self._base + value

    def get(self) -> float:
        own: float = self._values[self._place]
        others = (values[place] for values, place in self._others)
        return max(own, *others) if self._maximum and self._others else sum(others, own)

    def set_exemplar(self, exemplar: object) -> None:
        """None is kept."""

    def get_exemplar(self) -> None:
        return None


class Counts:
    """The regions of all processes, as one of them sees them. After `install`, new metrics count in the *own* one."""

    def __init__(self, regions: Sequence[Region], own: int) -> None:
        self._own = regions[own]
        self._regions = regions
        self._others: dict[Key, list[tuple[Any, int]]] = defaultdict(list)
        self._full = False
        self._earlier = tuple(key for key, _ in self._own.news())  # of who was here before

    def install(self) -> None:
        """For the whole process: prometheus-client asks for no other way (its own for several processes is this one,
        with a file's format that costs twice as much for each count).
        """
        prometheus_client.values.ValueClass = self.value

    def value(
        self,
        kind: str,
        family: str,
        name: str,
        label_names: Sequence[str],
        labels: Sequence[str],
        text: str,
        multiprocess_mode: str = "",
        **_: object,
    ) -> Value:
        """What prometheus-client calls for each number that it is to keep."""
        key = Key(family, name, tuple(labels), multiprocess_mode)
        place = self._own.place(key)
        if place is None:
            self._tell_full()
            return Value([0.0], 0, self._others[key], multiprocess_mode)
        return Value(self._own.values, place, self._others[key], multiprocess_mode)

    def gather(self, families: Mapping[str, Child]) -> Iterator[None]:
        """Learn which values the others have got since the last time, a step at a time."""
        for count, key in enumerate(self._earlier):
            self._make(families, key)
            if count % KEYS_PER_STEP == 0:
                yield
        self._earlier = ()
        for region in self._regions:
            if region is self._own:
                continue
            for key, place in region.news():
                self._others[key].append((region.values, place))
                self._make(families, key)
                if place % KEYS_PER_STEP == 0:
                    yield

    def forget_living(self, place: int) -> None:
        self._regions[place].forget_living()

    def _make(self, families: Mapping[str, Child], key: Key) -> None:
        """The value is ours, too, from now on: at nothing, or at what it had come to in our region."""
        with suppress(KeyError):
            families[key.family].of(*key.child)

    def _tell_full(self) -> None:
        if not self._full:
            self._full = True
            log.error("too many metrics; further ones count for this process alone", limit=VALUES_LIMIT)
