"""The prompt library in the ledger's database. Blocking; call from a thread.

Every change is one transaction that first raises the epoch, which only one can at a time: so what a change looks at
cannot change under it, in any number of processes. A version is never changed and never deleted; a label is moved by
comparing and setting, and a gated one through the gate alone. Who reads compares the epoch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update

from gateway.ledger.tables import (
    prompt_labels,
    prompt_library,
    prompt_moves,
    prompt_receipts,
    prompt_suites,
    prompt_versions,
)
from gateway.library.errors import (
    GateShut,
    LabelMoved,
    LabelRefused,
    LimitReached,
    NotPermitted,
    NumberTaken,
    OverrideRefused,
    ReceiptRefused,
    TemplateRefused,
)
from gateway.library.gate import covers, gate_of
from gateway.library.lineup import Lineup
from gateway.library.records import Move, Origin, Override, Pointed, Records, Saved, Who
from gateway.library.rows import Reader, move_of, stop_trials, tiers_of, versions_of, write_move
from gateway.library.standing import safe_tier_of
from gateway.library.traffic import Traffic, traffic_of
from prompts.check import errors
from prompts.folder import tier_errors
from prompts.library import Library, PromptNotFound, Version
from prompts.promptfile import LABEL, LabelPolicy, Policy
from prompts.receipt import Receipt
from prompts.reference import LATEST, reference
from prompts.suite import Suite
from prompts.suite_document import document_of, suite_of
from prompts.template import TIER, Template
from router.gate import Gate

MOST_VERSIONS = 10_000  # of one prompt
MOST_PROMPTS = 10_000
MOST_RECEIPTS = 100  # of one prompt and tier; the oldest go, but for those that a labelled version goes by
MOST_SUITES = 100  # of one prompt; the oldest go
MOST_LABELS = 64  # of one prompt
MOST_WORDS = 2_000  # characters of a message or a reason
CLOCKS = timedelta(minutes=5)  # by which those of two machines may differ
NO_POLICY = LabelPolicy()


class LibraryStore:
    """*lineup*: what serves now, for the gate. *where*: how messages call the database."""

    def __init__(
        self,
        database: Engine,
        lineup: Lineup,
        *,
        where: str = "the database",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._clock = clock
        self.lineup = lineup
        self.where = where
        self._reader = Reader()

    def serving(self, lineup: Lineup) -> "LibraryStore":
        """The same library, where *lineup* serves."""
        other = LibraryStore(self._database, lineup, where=self.where, clock=self._clock)
        other._reader = self._reader
        return other

    # Reading.

    def epoch(self) -> int:
        """It has changed when anything has. One row by its key."""
        with self._database.connect() as connection:
            return self.epoch_in(connection)

    def library(self) -> Library:
        return self.records().library

    def records(self) -> Records:
        """Everything that serving goes by, of one moment. Raises ValueError for what a newer program has written."""
        while True:
            with self._database.connect() as connection:
                before = connection.execute(select(prompt_library.c.epoch)).scalar_one()
                found = self._reader.records(connection)
            if found.epoch == before:  # PostgreSQL shows each statement what was committed until then
                return found

    def saved(self, prompt: str) -> list[Saved]:
        """Its versions, the oldest first. Raises PromptNotFound."""
        with self._database.connect() as connection:
            excluded = self._reader.excluded(connection, prompt)
            rows = connection.execute(versions_of(prompt).order_by(prompt_versions.c.number)).all()
        if not rows:
            raise PromptNotFound(f"there is no prompt {prompt!r}")
        return [self._reader.saved(row, excluded) for row in rows]

    def numbers(self, prompt: str) -> frozenset[int]:
        """Of its versions; empty where there is no such prompt."""
        with self._database.connect() as connection:
            wanted = select(prompt_versions.c.number).where(prompt_versions.c.prompt == prompt)
            return frozenset(connection.execute(wanted).scalars())

    def history(self, prompt: str, label: str | None = None) -> list[Move]:
        """The moves of its labels, or of one, the newest first."""
        wanted = select(prompt_moves).where(prompt_moves.c.prompt == prompt).order_by(prompt_moves.c.id.desc())
        if label is not None:
            wanted = wanted.where(prompt_moves.c.label == label)
        with self._database.connect() as connection:
            return [move_of(row) for row in connection.execute(wanted)]

    def receipts(self, prompt: str, template: str | None = None) -> list[Receipt]:
        """The newest first. *template*: the digest of what a tier is told (`Template.told`)."""
        wanted = select(prompt_receipts.c.document).where(prompt_receipts.c.prompt == prompt)
        if template is not None:
            wanted = wanted.where(prompt_receipts.c.template == template)
        with self._database.connect() as connection:
            rows = connection.execute(wanted.order_by(prompt_receipts.c.made_at.desc(), prompt_receipts.c.id)).all()
        return [Receipt.read(orjson.loads(document)) for (document,) in rows]

    def suite(self, prompt: str) -> Suite | None:
        """The one that is asked now."""
        with self._database.connect() as connection:
            return self.suite_in(connection, prompt)

    def suite_in(self, connection: Connection, prompt: str) -> Suite | None:
        return self._reader.suites(connection, prompt).get(prompt)

    def traffic(self, keys: Iterable[str]) -> list[Traffic]:
        """What the ledger has of the templates *keys*."""
        return traffic_of(self._database, keys, self._clock())

    def gate(self, prompt: str, number: int, excluded: Iterable[str] = ()) -> Gate:
        """What a gated label would ask of the version now. Raises PromptNotFound."""
        with self._database.connect() as connection:
            return self.gate_in(connection, self.version_in(connection, prompt, number), frozenset(excluded))

    # Versions.

    def save(
        self,
        template: Template,
        *,
        origin: Origin,
        author: str,
        message: str = "",
        parent: int | None = None,
        number: int | None = None,
    ) -> Version:
        """The version that has this content; it is new where none has. *number*: the one that it must get, where it is
        new. Raises TemplateRefused, NumberTaken, LimitReached; PromptNotFound for a parent that is not there.
        """
        with self._writing() as connection:
            return self.save_in(connection, template, origin, author, message, parent, number)

    def save_in(
        self,
        connection: Connection,
        template: Template,
        origin: Origin,
        author: str,
        message: str,
        parent: int | None,
        number: int | None,
    ) -> Version:
        """As `save`, in a change that `writing` has begun."""
        reference(template.id)  # a name that nobody could ask for
        found = [*errors(template), *tier_errors(template, self._reader.policy(connection))]
        if found:
            raise TemplateRefused(template.id, found)
        wanted = select(prompt_versions.c.digest, prompt_versions.c.number).where(
            prompt_versions.c.prompt == template.id
        )
        numbers: dict[str, int] = {digest: at for digest, at in connection.execute(wanted)}
        there = numbers.get(template.digest)
        if there is not None:
            return Version(template, there, self._reader.excluded(connection, template.id).get(there, frozenset()))
        if parent is not None and parent not in numbers.values():
            raise PromptNotFound(f"prompt {template.id!r} has no version {parent} to be made from")
        if number is not None and number in numbers.values():
            raise NumberTaken(f"{template.id}@{number} has another content in {self.where}; a version never changes")
        if len(numbers) >= MOST_VERSIONS:
            raise LimitReached(f"{template.id} has {MOST_VERSIONS:,} versions, which is the most; use another name")
        if not numbers and self._count_prompts(connection) >= MOST_PROMPTS:
            raise LimitReached(f"the library has {MOST_PROMPTS:,} prompts, which is the most")
        new = number or max(numbers.values(), default=0) + 1
        connection.execute(
            insert(prompt_versions).values(
                prompt=template.id,
                number=new,
                digest=template.digest,
                template=template.canonical.decode(),
                parent=parent,
                author=author[:128],
                origin=origin,
                message=message[:MOST_WORDS],
                created_at=self._clock(),
            )
        )
        return Version(template, new)

    # Labels.

    def move_label(
        self,
        prompt: str,
        label: str,
        number: int,
        *,
        expected: int | None,
        by: Who,
        excluded: Iterable[str] = (),
        override: Override | None = None,
        message: str = "",
    ) -> Move:
        """Let *label* point to version *number*, if it points to *expected* now (None: it is not there yet).

        A gated label goes nowhere but through the gate, or past it by an *override* that is allowed and logged.
        Raises PromptNotFound, LabelRefused, LabelMoved, NotPermitted, OverrideRefused, GateShut.
        """
        if not LABEL.fullmatch(label) or label == LATEST:
            why = "is computed, it is the highest version" if label == LATEST else "is no name of a label"
            raise LabelRefused(f"{label!r} {why}; use a-z, 0-9, _, . and -, a letter first, 36 at most")
        with self._writing() as connection:
            return self.move_in(connection, prompt, label, number, expected, by, excluded, override, message)

    def move_in(
        self,
        connection: Connection,
        prompt: str,
        label: str,
        number: int,
        expected: int | None,
        by: Who,
        excluded: Iterable[str],
        override: Override | None,
        message: str,
    ) -> Move:
        """As `move_label`, in a change that `writing` has begun. It ends a canary that runs."""
        version = self.version_in(connection, prompt, number)
        rule = self.rule_in(connection, label, by)
        out = self.leaving_out_in(connection, version.template, excluded)
        labels = self.labels_in(connection, prompt)
        current = labels[label].number if label in labels else None
        if current != expected:
            raise LabelMoved(prompt, label, expected, current)
        if label not in labels and len(labels) >= MOST_LABELS:
            raise LimitReached(f"{prompt} has {MOST_LABELS} labels, which is the most")
        shut = self._shut(connection, version, out) if rule.gated else None
        if shut is not None and override is None:
            raise GateShut(version.name, label, shut)
        if shut is None:
            override = None  # there is nothing to go past
        else:
            self._check_override(label, rule, by, override)
        move = Move(
            prompt,
            label,
            current,
            number,
            out,
            by.name[:128],
            message[:MOST_WORDS],
            self._clock(),
            override,
            tuple(asdict(row) for row in shut.failing) if shut is not None else (),
        )
        write_move(connection, move)
        stop_trials(connection, prompt, label, f"{label} went to version {number}, by {move.by}")
        return move

    def rollback(
        self,
        prompt: str,
        label: str,
        *,
        expected: int | None,
        by: Who,
        number: int | None = None,
        excluded: Iterable[str] | None = None,
        override: Override | None = None,
        message: str = "",
    ) -> Move:
        """Move *label* back to a version that it once pointed to: *number*, or the one before. The gate is asked as
        ever; it opens at once where the receipts are still valid. *excluded*: None for what was left out then.

        Raises LabelRefused where there is no such version, and what `move_label` does.
        """
        held = [move for move in self.history(prompt, label) if move.went_to != expected]
        if number is not None:
            held = [move for move in held if move.went_to == number]
        if not held:
            which = f"version {number}" if number is not None else "another version"
            raise LabelRefused(f"the label {label} of {prompt} has never been at {which}; move it there")
        out = held[0].excluded if excluded is None else excluded
        return self.move_label(
            prompt,
            label,
            held[0].went_to,
            expected=expected,
            by=by,
            excluded=out,
            override=override,
            message=message or "rollback",
        )

    # Proofs.

    def add_suite(self, prompt: str, suite: Suite, *, author: str) -> None:
        """From now on *suite* is what its versions are asked. Raises PromptNotFound, SuiteError."""
        with self._writing() as connection:
            self.add_suite_in(connection, prompt, suite, author)

    def add_suite_in(self, connection: Connection, prompt: str, suite: Suite, author: str) -> None:
        self._check_prompt(connection, prompt)
        document = document_of(suite)
        suite_of(document)  # what could not be read back is not kept
        epoch = self.epoch_in(connection)
        key = and_(prompt_suites.c.prompt == prompt, prompt_suites.c.digest == suite.digest)
        connection.execute(delete(prompt_suites).where(key))
        connection.execute(
            insert(prompt_suites).values(
                prompt=prompt,
                digest=suite.digest,
                document=orjson.dumps(document).decode(),
                author=author[:128],
                place=epoch,
                created_at=self._clock(),
            )
        )
        places = select(prompt_suites.c.digest).where(prompt_suites.c.prompt == prompt)
        old = connection.execute(places.order_by(prompt_suites.c.place.desc()).offset(MOST_SUITES)).scalars().all()
        connection.execute(
            delete(prompt_suites).where(prompt_suites.c.prompt == prompt, prompt_suites.c.digest.in_(old))
        )

    def add_receipt(self, prompt: str, receipt: Receipt, *, author: str) -> None:
        """Keep what a run has shown; the same receipt twice is one. Raises PromptNotFound, ReceiptRefused."""
        with self._writing() as connection:
            self._check_receipt(connection, prompt, receipt)
            key = and_(prompt_receipts.c.prompt == prompt, prompt_receipts.c.id == receipt.id)
            if connection.execute(select(prompt_receipts.c.id).where(key)).first() is not None:
                return
            connection.execute(
                insert(prompt_receipts).values(
                    prompt=prompt,
                    id=receipt.id,
                    tier=receipt.tier,
                    suite=receipt.binding.suite,
                    template=receipt.binding.template,
                    made_at=receipt.made_at.astimezone(UTC),
                    document=orjson.dumps(receipt.document()).decode(),
                    author=author[:128],
                )
            )
            self._forget_receipts(connection, prompt, receipt.tier)

    def _forget_receipts(self, connection: Connection, prompt: str, tier: str) -> None:
        """The oldest beyond the most, but for the latest run of each build of what a labelled version says: by these it
        serves, however often others were run since.
        """
        c = prompt_receipts.c
        of_tier = and_(c.prompt == prompt, c.tier == tier)
        newest = select(c.id).where(of_tier).order_by(c.made_at.desc())
        old = {*connection.execute(newest.offset(MOST_RECEIPTS)).scalars()}
        suite = self._reader.suites(connection, prompt).get(prompt) if old else None
        if suite is not None:
            labelled = select(prompt_labels.c.number).where(prompt_labels.c.prompt == prompt).distinct()
            numbers = connection.execute(labelled).scalars().all()
            told = {self.version_in(connection, prompt, number).template.told(tier) for number in numbers}
            valid = (r for r in self._reader.valid(connection, prompt, suite) if r.tier == tier and covers(r, suite))
            by_binding = {one.binding: one for one in sorted(valid, key=lambda one: (one.made_at, one.id))}
            old -= {one.id for binding, one in by_binding.items() if binding.template in told}
        connection.execute(delete(prompt_receipts).where(of_tier, c.id.in_(old)))

    # Policy.

    def set_policy_in(self, connection: Connection, policy: Policy) -> None:
        connection.execute(update(prompt_library).values(policy=policy.model_dump_json()))

    def now(self) -> datetime:
        return self._clock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._database.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One change, of several parts: all of it or nothing, and nobody else's between."""
        with self._writing() as connection:
            yield connection

    # Parts of a change that `writing` has begun.

    def raise_epoch_in(self, connection: Connection) -> None:
        """Whoever serves looks again."""
        connection.execute(update(prompt_library).values(epoch=prompt_library.c.epoch + 1))  # the lock of all

    def epoch_in(self, connection: Connection) -> int:
        return int(connection.execute(select(prompt_library.c.epoch)).scalar_one())

    def version_in(self, connection: Connection, prompt: str, number: int) -> Version:
        """Raises PromptNotFound."""
        row = connection.execute(versions_of(prompt, number)).one_or_none()
        if row is None:
            self._check_prompt(connection, prompt)
            raise PromptNotFound(f"prompt {prompt!r} has no version {number}")
        return self._reader.saved(row, self._reader.excluded(connection, prompt)).version

    def policy_in(self, connection: Connection) -> Policy:
        return self._reader.policy(connection)

    def labels_in(self, connection: Connection, prompt: str) -> Mapping[str, Pointed]:
        """Where each points."""
        rows = connection.execute(select(prompt_labels).where(prompt_labels.c.prompt == prompt))
        return {row.label: Pointed(row.number, tiers_of(row.excluded)) for row in rows}

    def rule_in(self, connection: Connection, label: str, by: Who) -> LabelPolicy:
        """What holds for *label*. Raises NotPermitted."""
        rule = self._reader.policy(connection).labels.get(label, NO_POLICY)
        if rule.roles and by.roles.isdisjoint(rule.roles):
            raise NotPermitted(f"the label {label} is moved by {', '.join(rule.roles)}, and {by.name} is none")
        return rule

    def gate_in(self, connection: Connection, version: Version, excluded: frozenset[str]) -> Gate:
        prompt = version.template.id
        suite = self._reader.suites(connection, prompt).get(prompt)
        receipts = () if suite is None else self._reader.valid(connection, prompt, suite)
        return gate_of(version.template, self.lineup, self._reader.policy(connection), suite, receipts, excluded)

    def leaving_out_in(self, connection: Connection, template: Template, excluded: Iterable[str]) -> frozenset[str]:
        """Raises LabelRefused."""
        out, policy = frozenset(excluded), self._reader.policy(connection)
        known = {place.tier for place in self.lineup.places(policy)}.union(policy.tiers)
        if unknown := sorted(out - known):
            raise LabelRefused(
                f"{unknown[0]!r} is no tier and cannot be excluded; tiers are {', '.join(sorted(known))}"
            )
        if (safe := safe_tier_of(template, self.lineup, policy)) in out:
            raise LabelRefused(
                f"{safe} is where {template.id} goes when nothing else is proved, and cannot be excluded; "
                "a version whose routing.tiers leave it out can"
            )
        return out

    # Inside.

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._database.begin() as connection:
            self.raise_epoch_in(connection)
            yield connection

    def _check_prompt(self, connection: Connection, prompt: str) -> None:
        reference(prompt)
        if connection.execute(versions_of(prompt).limit(1)).first() is None:
            raise PromptNotFound(f"there is no prompt {prompt!r}")

    def _count_prompts(self, connection: Connection) -> int:
        return int(connection.execute(select(func.count(prompt_versions.c.prompt.distinct()))).scalar_one())

    def _shut(self, connection: Connection, version: Version, excluded: frozenset[str]) -> Gate | None:
        found = self.gate_in(connection, version, excluded)
        return None if found.opens else found

    def _check_override(self, label: str, rule: LabelPolicy, by: Who, override: Override | None) -> None:
        assert override is not None
        if override.role not in rule.roles or override.role not in by.roles:
            named = ", ".join(rule.roles) or "nobody: name a role under labels in library.yaml"
            raise OverrideRefused(f"the gate of {label} is overridden by {named}; {by.name} is not {override.role!r}")
        if not override.reason.strip() or len(override.reason) > MOST_WORDS:
            raise OverrideRefused(f"an override says why, in up to {MOST_WORDS:,} characters: give a reason")
        if override.until.tzinfo is None or override.until <= self._clock():
            raise OverrideRefused("an override ends at a time to come: give one, with its zone")

    def _check_receipt(self, connection: Connection, prompt: str, receipt: Receipt) -> None:
        """Raises ReceiptRefused, PromptNotFound."""
        self._check_prompt(connection, prompt)
        if not TIER.fullmatch(receipt.tier):
            raise ReceiptRefused(f"{receipt.tier[:40]!r} is no name of a tier")
        if receipt.made_at > self._clock() + CLOCKS:
            raise ReceiptRefused("the receipt was made in the future; set the clock of the machine that made it")
        rows = connection.execute(versions_of(prompt)).all()
        if receipt.binding.template not in {
            self._reader.saved(row, {}).version.template.told(receipt.tier) for row in rows
        }:
            raise ReceiptRefused(
                f"the receipt is of a text that {prompt} has never said to {receipt.tier}; save the version first"
            )
        suite = self._reader.suites(connection, prompt).get(prompt)
        if suite is not None and receipt.binding.suite == suite.digest and not covers(receipt, suite):
            raise ReceiptRefused(
                f"the receipt counts {len(receipt.results)} cases and the suite has {len(suite.cases)}, with their "
                "tags and metrics; run all of it"
            )
