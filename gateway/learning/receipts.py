"""What suites have shown of prompts' versions, on its way to the router's records: a case is an outcome of the version
and the build, beside the safe tier's answer to the same case. Blocking.

**Once.** Which receipt a record has counted is written in the transaction that counts it. A later one of the same suite
tells of the same cases again: what it says otherwise is a correction, and what it repeats is nothing new, so that
nobody earns trust by asking the same often. After an alarm only a receipt made since then counts, as if it were the
first.

**As long as it matters.** What was counted last is kept while the record is there that has counted it, or a receipt of
the library is about it; so it is as many rows as these are, which have limits.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import orjson
import structlog
from sqlalchemy import Connection, Engine, delete, exists, insert, select

from gateway.learning.store import Contended, Key, RecordStore
from gateway.ledger.tables import evidence, suite_outcomes
from gateway.library.lineup import Lineup
from gateway.library.records import Records
from gateway.library.store import LibraryStore
from prompts.fitted import fitted
from prompts.receipt import Receipt
from router.decision import Knowledge, Mode
from router.record import Observed, Record, Terms, observe
from router.sources import Source

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """A valid receipt, and whose record it belongs to. `safe`: the safe tier's on the same suite, if any. `fitted`,
    `safe_fitted`: the cases that each one's text or model was made from, which show nothing of others.
    """

    key: Key
    receipt: Receipt
    safe: Receipt | None
    fitted: frozenset[str] = frozenset()
    safe_fitted: frozenset[str] = frozenset()

    @property
    def passed(self) -> Mapping[str, bool]:
        """By case, of those that count."""
        return _passed(self.receipt, self.fitted)

    @property
    def safe_passed(self) -> Mapping[str, bool]:
        return {} if self.safe is None else _passed(self.safe, self.safe_fitted)


@dataclass(frozen=True, slots=True)
class Counted:
    """The receipt that a record has counted last: when it was made, and what it says of each case."""

    receipt: str
    suite: str
    made_at: float
    cases: Mapping[str, bool]

    @classmethod
    def of(cls, shown: Shown) -> Self:
        receipt = shown.receipt
        return cls(receipt.id, receipt.binding.suite, receipt.made_at.timestamp(), shown.passed)


class Overtaken(Exception):
    """Somebody else has counted another receipt meanwhile."""


def shown_in(records: Records, lineup: Lineup) -> Iterator[Shown]:
    """The newest valid receipt of every version on every build under the safe tier."""
    for prompt, versions in records.library.versions.items():
        suite, receipts = records.suites.get(prompt), records.receipts.get(prompt, ())
        if suite is None or not receipts:
            continue
        by_binding = {r.binding: r for r in sorted(receipts, key=lambda r: (r.made_at, r.id))}
        for version in versions.values():
            template = version.template
            *cheaper, safest = lineup.places(records.library.policy)
            safe = by_binding.get(lineup.binding(template, safest.tier, safest.build, suite))
            for place in cheaper:
                receipt = by_binding.get(lineup.binding(template, place.tier, place.build, suite))
                if receipt is not None:
                    out, safe_out = (fitted(template, p.tier, suite, p.taught) for p in (place, safest))
                    yield Shown((template.key, place.build), receipt, safe, out, safe_out)


def _passed(receipt: Receipt, fitted: frozenset[str]) -> dict[str, bool]:
    return {result.case: result.passed for result in receipt.results if result.case not in fitted}


def outcomes_of(shown: Shown, before: Mapping[str, bool], at: float) -> Sequence[Observed]:
    """The receipt's cases as outcomes, told at the time *at*. *before*: what was counted of them."""
    beside = shown.safe_passed
    return [
        Observed(
            Source.SUITE,
            passed,
            served_at=shown.receipt.made_at.timestamp(),
            at=at,
            safe_passed=beside.get(case),
            was=before.get(case),
            suite=shown.receipt.binding.suite,
        )
        for case, passed in shown.passed.items()
    ]


class ReceiptCounter:
    """Of one gateway: one of its processes counts; were it several, each receipt would still count once."""

    def __init__(self, database: Engine, store: RecordStore) -> None:
        self._database = database
        self._store = store
        self._done: tuple[int, Lineup, Terms] | None = None

    def count(self, prompts: LibraryStore, epoch: int, knowledge: Knowledge, terms: Terms) -> int:
        """What receipts there are that no record has; how many those were. *epoch*: of the library, which is read only
        where that has changed, or who serves, or the bar. Raises SQLAlchemyError.
        """
        now = (epoch, prompts.lineup, terms)
        if epoch == 0 or now == self._done:
            return 0
        counted, is_whole = 0, True
        told: set[Key] = set()
        for shown in shown_in(prompts.records(), prompts.lineup):
            told.add(shown.key)
            try:
                counted += self.count_one(shown, knowledge, terms)
            except (Contended, Overtaken) as problem:
                log.warning("a receipt is counted later", receipt=shown.receipt.id, error=str(problem))
                is_whole = False
        if is_whole:
            self._forget(told)
            self._done = now
        return counted

    def _forget(self, told: Collection[Key]) -> None:
        """What was counted in records that are gone, but of the receipts *told* of now: counting those anew would fill
        up with what was forgotten for want of space.
        """
        c = suite_outcomes.c
        is_gone = ~exists().where(evidence.c.template == c.template, evidence.c.build == c.build)
        with self._database.connect() as connection:
            found = [(of, build) for of, build in connection.execute(select(c.template, c.build).where(is_gone))]
        for of, build in found:
            if (of, build) not in told:
                with self._database.begin() as connection:
                    connection.execute(delete(suite_outcomes).where(c.template == of, c.build == build, is_gone))

    def count_one(self, shown: Shown, knowledge: Knowledge, terms: Terms) -> bool:
        """Whether it was new. Where the bar compares with the safe tier it waits for that one's. Raises Contended,
        Overtaken.
        """
        if knowledge.mode_of(shown.key[0]) is Mode.OFF or (terms.bar.pass_rate is None and shown.safe is None):
            return False
        with self._database.connect() as connection:
            last = _last(connection, shown.key)
        new = Counted.of(shown)
        if last is not None and (last.receipt == new.receipt or last.made_at > new.made_at):
            return False

        def how(record: Record) -> Record:
            still = last is not None and last.suite == new.suite and last.made_at >= record.generations[0].began
            before = last.cases if last is not None and still and _has_suites(record) else {}
            for observed in outcomes_of(shown, before, datetime.now(UTC).timestamp()):
                record = observe(record, observed, terms, knowledge.given(*shown.key))
            return record

        def also(connection: Connection) -> None:
            if _last(connection, shown.key) != last:
                raise Overtaken(f"another receipt of {shown.key[0]} on {shown.key[1]} was counted")
            _write(connection, shown.key, new)

        self._store.change(shown.key, how, also)
        return True


def _has_suites(record: Record) -> bool:
    """Not forgotten since, as the longest untouched are."""
    return any(generation.tallies.get(Source.SUITE) for generation in record.generations)


def _last(connection: Connection, key: Key) -> Counted | None:
    mine = (suite_outcomes.c.template == key[0], suite_outcomes.c.build == key[1])
    row = connection.execute(select(suite_outcomes).where(*mine)).one_or_none()
    return None if row is None else Counted(row.receipt, row.suite, row.made_at, orjson.loads(row.cases))


def _write(connection: Connection, key: Key, new: Counted) -> None:
    connection.execute(
        delete(suite_outcomes).where(suite_outcomes.c.template == key[0], suite_outcomes.c.build == key[1])
    )
    connection.execute(
        insert(suite_outcomes).values(
            template=key[0],
            build=key[1],
            receipt=new.receipt,
            suite=new.suite,
            made_at=new.made_at,
            cases=orjson.dumps(dict(new.cases)).decode(),
        )
    )
