"""The rows of the prompt library as values. What never changes is parsed once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from gateway.ledger.tables import (
    prompt_canaries,
    prompt_labels,
    prompt_library,
    prompt_moves,
    prompt_receipts,
    prompt_suites,
    prompt_versions,
)
from gateway.library.records import Move, Override, Records, Saved, Trial
from gateway.pages import in_utc
from prompts.library import Library, Version
from prompts.promptfile import Policy
from prompts.receipt import Receipt
from prompts.suite import Suite
from prompts.suite_document import suite_of
from prompts.template import Template, template_of
from router.canary import canary_of, document_of

AT_A_TIME = 500  # digests in one statement


class Reader:
    """Reads over the connections that it is handed."""

    def __init__(self) -> None:
        self._templates: dict[str, Template] = {}  # by digest
        self._receipts: dict[tuple[str, str], Receipt] = {}  # by prompt and id
        self._suites: dict[tuple[str, str, int], Suite] = {}  # by prompt, digest and place, as they were read last

    def records(self, connection: Connection) -> Records:
        policy = self.policy(connection)
        excluded: dict[str, dict[int, frozenset[str]]] = defaultdict(dict)
        labels: dict[str, dict[str, int]] = defaultdict(dict)
        overrides: dict[str, dict[str, datetime]] = defaultdict(dict)
        for row in connection.execute(select(prompt_labels)):
            labels[row.prompt][row.label] = row.number
            of = excluded[row.prompt]
            of[row.number] = of.get(row.number, frozenset()) | tiers_of(row.excluded)
            if row.override_until is not None:
                overrides[row.prompt][row.label] = in_utc(row.override_until)
        trials: dict[str, dict[str, Trial]] = defaultdict(dict)
        for trial in trials_in(connection):
            trials[trial.prompt][trial.label] = trial
            if trial.runs:
                of = excluded[trial.prompt]
                of[trial.number] = of.get(trial.number, frozenset()) | trial.excluded
        versions: dict[str, dict[int, Version]] = defaultdict(dict)
        wanted = select(prompt_versions.c.prompt, prompt_versions.c.number, prompt_versions.c.digest)
        rows = connection.execute(wanted).all()
        self._read_templates(connection, {digest for _, _, digest in rows})
        for prompt, number, digest in rows:
            out = excluded.get(prompt, {}).get(number, frozenset())
            versions[prompt][number] = Version(self._templates[digest], number, out)
        suites = self.suites(connection)
        epoch = connection.execute(select(prompt_library.c.epoch)).scalar_one()
        receipts = self._valid_of_all(connection, suites)
        library = Library(dict(versions), dict(labels), policy)
        return Records(library, epoch, suites, receipts, dict(overrides), dict(trials))

    def _read_templates(self, connection: Connection, digests: Iterable[str]) -> None:
        """Those that were never read: of a version that is there nothing changes."""
        new = [digest for digest in digests if digest not in self._templates]
        c = prompt_versions.c
        for start in range(0, len(new), AT_A_TIME):
            wanted = select(c.digest, c.template).where(c.digest.in_(new[start : start + AT_A_TIME]))
            for digest, text in connection.execute(wanted):
                self._templates[digest] = template_of(text.encode())

    def _valid_of_all(self, connection: Connection, suites: Mapping[str, Suite]) -> dict[str, tuple[Receipt, ...]]:
        """By prompt, the receipts of its suite. Others are forgotten."""
        ids: dict[str, list[str]] = {prompt: [] for prompt in suites}
        c = prompt_receipts.c
        for prompt, id, suite in connection.execute(select(c.prompt, c.id, c.suite)):
            if prompt in suites and suite == suites[prompt].digest:
                ids[prompt].append(id)
        found = {prompt: tuple(self._receipts_of(connection, prompt, of)) for prompt, of in ids.items()}
        kept = [key for prompt, of in ids.items() for id in of if (key := (prompt, id)) in self._receipts]
        self._receipts = {key: self._receipts[key] for key in kept}
        return found

    def excluded(self, connection: Connection, prompt: str) -> Mapping[int, frozenset[str]]:
        """By version, what the labels that point to it, or try it, leave out together."""
        found: dict[int, frozenset[str]] = {}
        for row in connection.execute(select(prompt_labels).where(prompt_labels.c.prompt == prompt)):
            found[row.number] = found.get(row.number, frozenset()) | tiers_of(row.excluded)
        for trial in trials_in(connection, prompt):
            if trial.runs:
                found[trial.number] = found.get(trial.number, frozenset()) | trial.excluded
        return found

    def saved(self, row: Row[Any], excluded: Mapping[int, frozenset[str]]) -> Saved:
        template = self._templates.setdefault(row.digest, template_of(row.template.encode()))
        version = Version(template, row.number, excluded.get(row.number, frozenset()))
        return Saved(version, row.origin, row.author, row.message, row.parent, in_utc(row.created_at))

    def policy(self, connection: Connection) -> Policy:
        said = connection.execute(select(prompt_library.c.policy)).scalar_one()
        return Policy() if said is None else Policy.model_validate_json(said)

    def suites(self, connection: Connection, prompt: str | None = None) -> dict[str, Suite]:
        """Of every prompt, or of one, the suite that was set last."""
        last = select(prompt_suites.c.prompt, func.max(prompt_suites.c.place).label("place"))
        newest = last.group_by(prompt_suites.c.prompt).subquery()
        wanted = select(prompt_suites.c.prompt, prompt_suites.c.digest, prompt_suites.c.place).join(
            newest, and_(newest.c.prompt == prompt_suites.c.prompt, newest.c.place == prompt_suites.c.place)
        )
        if prompt is not None:
            wanted = wanted.where(prompt_suites.c.prompt == prompt)
        found = {(name, digest, place): name for name, digest, place in connection.execute(wanted)}
        suites = {key: self._suites.get(key) or self._suite(connection, *key) for key in found}
        if prompt is None:
            self._suites = {key: suite for key, suite in suites.items() if suite is not None}
        return {found[key]: suite for key, suite in suites.items() if suite is not None}

    def _suite(self, connection: Connection, prompt: str, digest: str, place: int) -> Suite | None:
        """None where another was set meanwhile, which whoever compares the epoch sees."""
        key = (prompt_suites.c.prompt == prompt, prompt_suites.c.digest == digest, prompt_suites.c.place == place)
        document = connection.execute(select(prompt_suites.c.document).where(*key)).scalar_one_or_none()
        return None if document is None else suite_of(orjson.loads(document))

    def valid(self, connection: Connection, prompt: str, suite: Suite) -> tuple[Receipt, ...]:
        """The receipts of *suite*."""
        wanted = select(prompt_receipts.c.id).where(
            prompt_receipts.c.prompt == prompt, prompt_receipts.c.suite == suite.digest
        )
        return tuple(self._receipts_of(connection, prompt, connection.execute(wanted).scalars().all()))

    def _receipts_of(self, connection: Connection, prompt: str, ids: Iterable[str]) -> Iterator[Receipt]:
        for id in ids:
            receipt = self._receipts.get((prompt, id))
            if receipt is None:
                key = (prompt_receipts.c.prompt == prompt, prompt_receipts.c.id == id)
                document = connection.execute(select(prompt_receipts.c.document).where(*key)).scalar_one_or_none()
                if document is None:  # it has just gone, for newer ones
                    continue
                receipt = self._receipts[prompt, id] = Receipt.read(orjson.loads(document))
            yield receipt


def versions_of(prompt: str, number: int | None = None) -> Any:
    wanted = select(prompt_versions).where(prompt_versions.c.prompt == prompt)
    return wanted if number is None else wanted.where(prompt_versions.c.number == number)


def write_move(connection: Connection, move: Move) -> None:
    key = (prompt_labels.c.prompt == move.prompt, prompt_labels.c.label == move.label)
    override = move.override
    until = None if override is None else override.until.astimezone(UTC)
    excluded = orjson.dumps(sorted(move.excluded)).decode()
    values = {"number": move.went_to, "excluded": excluded, "override_until": until}
    if move.came_from is None:
        connection.execute(insert(prompt_labels).values(prompt=move.prompt, label=move.label, **values))
    else:
        connection.execute(update(prompt_labels).where(*key).values(**values))
    log_move(connection, move)


def log_move(connection: Connection, move: Move) -> None:
    """A line of the label's log, which does not move it."""
    override = move.override
    connection.execute(
        insert(prompt_moves).values(
            prompt=move.prompt,
            label=move.label,
            came_from=move.came_from,
            went_to=move.went_to,
            excluded=orjson.dumps(sorted(move.excluded)).decode(),
            mover=move.by,
            message=move.message,
            moved_at=move.at,
            override_role=None if override is None else override.role,
            override_reason=None if override is None else override.reason,
            override_until=None if override is None else override.until.astimezone(UTC),
            gate=orjson.dumps(list(move.failing)).decode() if move.failing else None,
        )
    )


def move_of(row: Row[Any]) -> Move:
    override = None
    if row.override_role is not None:
        override = Override(row.override_role, row.override_reason, in_utc(row.override_until))
    failing: Sequence[Mapping[str, object]] = orjson.loads(row.gate) if row.gate else ()
    return Move(
        row.prompt,
        row.label,
        row.came_from,
        row.went_to,
        tiers_of(row.excluded),
        row.mover,
        row.message,
        in_utc(row.moved_at),
        override,
        tuple(failing),
    )


def trials_in(connection: Connection, prompt: str | None = None, *, locked: bool = False) -> list[Trial]:
    """Of every prompt, or of one; what began last comes last. *locked*: nobody changes them until the end of the
    transaction, which must have raised the epoch.
    """
    wanted = select(prompt_canaries).order_by(prompt_canaries.c.place)
    if prompt is not None:
        wanted = wanted.where(prompt_canaries.c.prompt == prompt)
    if locked:
        wanted = wanted.with_for_update()
    return [trial_of(row) for row in connection.execute(wanted)]


def trial_of(row: Row[Any]) -> Trial:
    return Trial(
        row.prompt,
        row.label,
        row.number,
        row.tier,
        tuple(orjson.loads(row.builds)),
        tiers_of(row.excluded),
        row.author,
        in_utc(row.began_at),
        canary_of(orjson.loads(row.canary)),
        row.revision,
    )


def write_trial(connection: Connection, trial: Trial, place: int) -> None:
    """A new one, which begins at the epoch *place*; one of the same version and tier, of other builds, goes."""
    connection.execute(delete(prompt_canaries).where(*_same(trial)))
    connection.execute(
        insert(prompt_canaries).values(
            prompt=trial.prompt,
            label=trial.label,
            number=trial.number,
            tier=trial.tier,
            builds=orjson.dumps(trial.builds).decode(),
            author=trial.by,
            began_at=trial.began_at,
            place=place,
            revision=trial.revision,
            **_how_far(trial),
        )
    )


def replace_trial(connection: Connection, trial: Trial, place: int | None = None) -> bool:
    """Put *trial* in the place of the same one of that revision; whether it was still there. *place*: the epoch at
    which it goes on.
    """
    same = (*_same(trial), prompt_canaries.c.revision == trial.revision)
    values: dict[str, Any] = {**_how_far(trial), "revision": trial.revision + 1}
    if place is not None:
        values["place"] = place
    return connection.execute(update(prompt_canaries).where(*same).values(**values)).rowcount == 1


def stop_trials(connection: Connection, prompt: str, label: str, why: str) -> None:
    """Those of *label* that run: there is one at most."""
    for trial in trials_in(connection, prompt, locked=True):
        if trial.label == label and trial.runs:
            replace_trial(connection, replace(trial, canary=trial.canary.stopped(why)))


def _same(trial: Trial) -> tuple[ColumnElement[bool], ...]:
    c = prompt_canaries.c
    return c.prompt == trial.prompt, c.label == trial.label, c.number == trial.number, c.tier == trial.tier


def _how_far(trial: Trial) -> dict[str, str]:
    return {
        "stage": trial.canary.stage.value,
        "canary": orjson.dumps(document_of(trial.canary)).decode(),
        "excluded": orjson.dumps(sorted(trial.excluded)).decode(),
    }


def tiers_of(text: str) -> frozenset[str]:
    return frozenset(orjson.loads(text))
