"""Turns what the ledger has of live traffic into outcomes: feedback by its name, and the lengths of inputs. Blocking.

Feedback is marked as counted in the transaction that counts it, so it is counted once: whoever dies between, and
however often, late or contradictory it is told.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, Engine, Row, and_, func, select, update

from gateway.learning.section import LearningSection
from gateway.learning.store import Contended, Key, RecordStore
from gateway.ledger.charge import SHADOW
from gateway.ledger.tables import charges, feedback
from gateway.library.canaries import CanaryStore
from router.bar import Verdict
from router.decision import Basis, Knowledge, Mode
from router.record import Observed, Record, Terms, observe, saw_inputs
from router.sources import Source

log = structlog.get_logger(__name__)

BATCH_LIMIT = 1_000  # feedback of one pass
INPUTS_LIMIT = 2_000  # requests of one pass; of more than that these are enough to see what they are like
UNCHARGED = timedelta(days=1)  # feedback whose request has no charge by then gets none

SETTLED = timedelta(minutes=1)  # requests received before are in the ledger, but for few; those are not missed
INPUTS_EVERY = timedelta(seconds=15)

CHARGED = ("build", "cache", "at", "basis", "prompt", "prompt_version")
SUBJECT = func.coalesce(charges.c.evidence_group, charges.c.template)  # whose evidence an outcome is

DUE = (
    select(
        feedback,
        charges.c.id.label("charge"),
        *(charges.c[name].label(f"charge_{name}") for name in CHARGED),
        SUBJECT.label("subject"),
    )
    .outerjoin(charges, and_(charges.c.id == feedback.c.request_id, charges.c.caller == feedback.c.caller))
    .where(feedback.c.due)
    .order_by(feedback.c.updated_at)
    .limit(BATCH_LIMIT)
)


class Overtaken(Exception):
    """Feedback is no longer as it was read."""


class Counter:
    """Of one gateway: only one of its processes counts, or the mix of inputs would be counted several times."""

    def __init__(
        self, database: Engine, store: RecordStore, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._inputs_until = clock() - SETTLED

    def count(self, settings: LearningSection, knowledge: Knowledge, canaries: CanaryStore | None = None) -> int:
        """Whatever is new. How much feedback was counted. Raises SQLAlchemyError."""
        now = self._clock()
        counted = self._count_feedback(settings, knowledge, canaries, now)
        if now - SETTLED - self._inputs_until >= INPUTS_EVERY:
            self._count_inputs(knowledge, self._inputs_until, now - SETTLED)
            self._inputs_until = now - SETTLED
        self._store.shrink(settings.max_records, {template for template, _ in knowledge.evidence.tallies})
        return counted

    def _count_feedback(
        self, settings: LearningSection, knowledge: Knowledge, canaries: CanaryStore | None, now: datetime
    ) -> int:
        with self._database.connect() as connection:
            due = connection.execute(DUE).all()
        builds = {model.build for model in knowledge.models[:-1]}
        terms = settings.terms(knowledge.bar)
        counted = 0
        for row in due:
            if row.charge is None and utc(row.updated_at) > now - UNCHARGED:
                continue  # the answer is still being made
            passed = _passed(orjson.loads(row.value)["value"], settings.feedback.get(row.name))
            counts = row.subject is not None and row.charge_build in builds and row.charge_cache is None
            if passed is None or not counts or knowledge.mode_of(row.subject) is Mode.OFF:
                with self._database.begin() as connection:
                    _settle(connection, row, row.counted)
                continue
            try:
                self._observe(row, passed, knowledge, terms, canaries, now)
            except Contended as problem:  # it is due still
                log.warning("feedback is counted later", error=str(problem))
            except Overtaken:  # counted by somebody else, or told again; then it is due still
                pass
            else:
                counted += 1
        return counted

    def _observe(
        self,
        row: Row[Any],
        passed: bool,
        knowledge: Knowledge,
        terms: Terms,
        canaries: CanaryStore | None,
        now: datetime,
    ) -> None:
        key = (row.subject, row.charge_build)
        served_at = utc(row.charge_at).timestamp()
        released = row.charge_basis == Basis.CHECK
        observed = Observed(Source.FEEDBACK, passed, served_at, now.timestamp(), was=row.counted, released=released)

        def how(record: Record) -> Record:
            return observe(record, observed, terms, knowledge.given(*key))

        def also(connection: Connection) -> None:
            if not _settle(connection, row, passed):
                raise Overtaken
            if canaries is not None and row.charge_basis == Basis.CANARY:
                canaries.tell_in(connection, row.charge_prompt, row.charge_prompt_version, [observed], terms)

        self._store.change(key, how, also)

    def _count_inputs(self, knowledge: Knowledge, since: datetime, until: datetime) -> None:
        """Tell the records that may lose trust how long the prompts were."""
        builds = [model.build for model in knowledge.models[:-1]]
        wanted = (
            select(SUBJECT, charges.c.build, charges.c.prompt_tokens)
            .where(charges.c.at > since, charges.c.at <= until, charges.c.build.in_(builds), charges.c.cache.is_(None))
            .where(charges.c.template.is_not(None), charges.c.prompt_tokens.is_not(None))
            .where(charges.c.operation.is_distinct_from(SHADOW))
            .limit(INPUTS_LIMIT)
        )
        lengths: dict[Key, list[int]] = defaultdict(list)
        with self._database.connect() as connection:
            for template, build, tokens in connection.execute(wanted):
                lengths[template, build].append(tokens)
        for key, tokens in lengths.items():
            shown = knowledge.about(*key)
            if shown is not None and shown.verdict is Verdict.HOLDS and knowledge.mode_of(key[0]) is not Mode.OFF:
                self._store.change(key, partial(saw_inputs, prompt_tokens=tokens, at=until.timestamp()))


def utc(at: datetime) -> datetime:
    """SQLite keeps no zone; it is UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _settle(connection: Connection, row: Row[Any], counted: bool | None) -> bool:
    """Mark it as counted; whether it was still as it was read."""
    mine = [feedback.c[name] == getattr(row, name) for name in ("request_id", "caller", "name", "updated_at")]
    statement = update(feedback).where(*mine, feedback.c.due).values(counted=counted, due=False)
    return connection.execute(statement).rowcount == 1


def _passed(value: object, passes_from: float | None) -> bool | None:
    """None for what is no outcome: a name that means none, a text, a number that is not between 0 and 1."""
    if passes_from is None or not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        return None
    return value >= passes_from
