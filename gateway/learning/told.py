"""Outcomes that are found out while requests are answered, on their way to the records: a second at a time, so that
no request writes to the database. A process that is killed loses those of its last second, whatever they were.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import time

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.learning.store import Change, Contended, Key, RecordStore
from gateway.library.canaries import CanaryStore
from router.decision import Knowledge, Mode
from router.record import Observed, Record, Terms, observe
from router.sources import Source

log = structlog.get_logger(__name__)

WAITING_LIMIT = 10_000  # outcomes, a megabyte or two; beyond it new ones are dropped, whatever they are


Tried = tuple[str, int]  # a prompt, and the version of it that a canary tries


@dataclass(frozen=True, slots=True)
class Told:
    """An outcome of a template (or group) and a build. `incomparable`: there was nothing to compare; it counts as a
    failure once others of the same template were compared, or those would be picked by their safe answers. `tried`: the
    answer was a canary's, which is told too.
    """

    key: Key
    observed: Observed
    incomparable: bool = False
    tried: Tried | None = None


class Outcomes:
    """`tell` from the event loop, `write` from a thread, one at a time."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._waiting: deque[Told] = deque()

    def tell(
        self,
        source: Source,
        key: Key,
        *,
        passed: bool,
        at: float,
        incomparable: bool = False,
        tried: Tried | None = None,
    ) -> None:
        """*at*: when the answer was given, seconds since 1970. The safe tier has passed where it answered too."""
        if len(self._waiting) < WAITING_LIMIT:
            safe_passed = True if source is Source.SHADOW else None
            self._waiting.append(Told(key, Observed(source, passed, at, time(), safe_passed), incomparable, tried))

    def write(self, knowledge: Knowledge, terms: Terms, canaries: CanaryStore | None = None) -> int:
        """Whatever waits; how many that were. What cannot be written waits on. Raises SQLAlchemyError."""
        waiting: dict[Key, list[Told]] = defaultdict(list)
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            waiting[one.key].append(one)
        builds = {model.build for model in knowledge.models[:-1]}
        written = 0
        while waiting:
            key, told = waiting.popitem()
            if key[1] not in builds or knowledge.mode_of(key[0]) is Mode.OFF:
                continue
            try:
                self._write(key, told, knowledge, terms, canaries)
                written += len(told)
            except Contended as problem:
                log.warning("outcomes are counted later", error=str(problem))
                self._waiting.extend(told)
            except SQLAlchemyError:
                self._waiting.extend([*told, *(one for others in waiting.values() for one in others)])
                raise
        return written

    def _write(
        self, key: Key, told: Sequence[Told], knowledge: Knowledge, terms: Terms, canaries: CanaryStore | None
    ) -> None:
        given = knowledge.given(*key)
        counted: list[Told] = []

        def how(record: Record) -> Record:
            counted.clear()
            for one in told:
                if not one.incomparable or _has_shadows(record):
                    counted.append(one)
                    record = observe(record, one.observed, terms, given)
            return record

        def also(connection: Connection) -> None:
            """In the same transaction: an outcome is told to both or to none."""
            tried: dict[Tried, list[Observed]] = defaultdict(list)
            for one in counted:
                if one.tried is not None:
                    tried[one.tried].append(one.observed)
            for (prompt, number), observed in tried.items():
                assert canaries is not None
                canaries.tell_in(connection, prompt, number, observed, terms)

        change: Change = how
        if all(one.incomparable for one in told):  # no reason to make a record
            self._store.change_existing(key[0], [key[1]], change, also)
        else:
            self._store.change(key, change, also)


def _has_shadows(record: Record) -> bool:
    return any(generation.tallies.get(Source.SHADOW) for generation in record.generations)
