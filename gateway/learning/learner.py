"""What one process knows of the records, kept up to date. Blocking, from any thread, one at a time."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from gateway.learning.store import Key, RecordStore
from router.bar import Shown, Verdict
from router.decision import Knowledge
from router.record import Record, Terms, tell

log = structlog.get_logger(__name__)

OVERLAP = timedelta(seconds=30)  # read again, as clocks of several machines differ and transactions end out of order
ANEW = timedelta(minutes=5)  # everything is read again so often, so that what was forgotten is forgotten here too


class Learner:
    """`known` gives what all processes have learned. It reads only what has changed."""

    def __init__(self, store: RecordStore, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[Key, Record] = {}
        self._learned: Mapping[Key, Shown] = {}
        self._terms: Terms | None = None
        self._base: object = None  # the tables that `_learned` was told over
        self._read_until: datetime | None = None
        self._read_all_at = datetime.min.replace(tzinfo=UTC)

    def known(self, knowledge: Knowledge, terms: Terms) -> Knowledge:
        """*knowledge* with everything learned until now: itself where that is nothing new. Raises SQLAlchemyError."""
        with self._lock:
            changed = self._read()
            if terms != self._terms or knowledge.evidence is not self._base:
                changed = dict(self._records)
            if changed or not self._learned.keys() <= self._records.keys():
                told = {key: shown for key, shown in self._learned.items() if key in self._records}
                builds = {model.build for model in knowledge.models[:-1]}
                told |= {
                    key: tell(record, terms, knowledge.given(*key))
                    for key, record in changed.items()
                    if key[1] in builds
                }
                _log_suspensions(self._learned, told)
                self._learned = told
            self._terms, self._base = terms, knowledge.evidence
            nothing_new = knowledge.learned is self._learned or not (knowledge.learned or self._learned)
            return knowledge if nothing_new else knowledge.learning(self._learned)

    def _read(self) -> dict[Key, Record]:
        """What has changed since the last time."""
        now = self._clock()
        anew = now - self._read_all_at >= ANEW or self._read_until is None
        since = None if anew else self._read_until
        found = {kept.key: kept.record for kept in self._store.read(since)}
        changed = {key: record for key, record in found.items() if self._records.get(key) != record}
        self._records = found if anew else {**self._records, **found}
        if anew:
            self._read_all_at = now
        self._read_until = now - OVERLAP
        return changed


def _log_suspensions(before: Mapping[Key, Shown], now: Mapping[Key, Shown]) -> None:
    for key, shown in now.items():
        was = before.get(key)
        if shown.verdict is Verdict.SUSPENDED and (was is None or was.verdict is not Verdict.SUSPENDED):
            log.warning("a model lost its trust", template=key[0], build=key[1], cause=shown.cause, says=shown.says)
