"""Canaries in the library's database: a version is tried under a label, with a share of its requests on a cheaper tier,
and the label goes to it when that has proved itself. Blocking; call from a thread.

It begins only where the gate is open, as a label moves, and ends by the same door: so no canary gets a version past the
gate. Outcomes are told by any number of processes at once. Who has read an older revision writes nothing, so no step is
made twice; and only a change of the share raises the epoch by which processes follow. What becomes of a canary is in
the log of its label, with where the label is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from gateway.learning.store import Contended
from gateway.library.errors import CanaryRefused, GateShut, LabelMoved, LibraryError
from gateway.library.gate import live_bar
from gateway.library.records import Move, Pointed, Trial, Who
from gateway.library.rows import log_move, replace_trial, trials_in, write_trial
from gateway.library.standing import Standing, safe_tier_of
from gateway.library.store import MOST_WORDS, NO_POLICY, LibraryStore
from prompts.library import PromptNotFound, Version
from router.bar import Bar, Shown, Verdict
from router.canary import Canary, Stage, steps_for
from router.decision import Knowledge
from router.record import Observed, Terms

ITSELF = "canary"  # who moves a label at the end of one


class CanaryStore:
    """Of the library that *store* keeps."""

    def __init__(self, store: LibraryStore) -> None:
        self._store = store

    def of(self, prompt: str, label: str) -> Trial | None:
        """The last one of *label*, whether or not it runs."""
        with self._store.reading() as connection:
            return _last(connection, prompt, label)

    def begin(
        self,
        prompt: str,
        label: str,
        number: int,
        tier: str,
        *,
        expected: int | None,
        by: Who,
        bar: Bar,
        excluded: Iterable[str] = (),
        message: str = "",
    ) -> Trial:
        """Try version *number* on *tier* under *label*, if that points to *expected* now; *bar*: the operator's. One
        that was stopped goes on where it was.

        Raises PromptNotFound, LabelRefused, LabelMoved, NotPermitted, GateShut, CanaryRefused.
        """
        store = self._store
        with store.writing() as connection:
            version = store.version_in(connection, prompt, number)
            store.rule_in(connection, label, by)
            at = self._pointed(connection, prompt, label, expected)
            if at.number == number:
                raise CanaryRefused(f"{label} is at version {number} already; name another version")
            out = store.leaving_out_in(connection, version.template, excluded)
            builds = self._builds(connection, version, tier, out)
            before = self._check_free(connection, version, label, tier, builds)
            gate = store.gate_in(connection, version, out)
            if not gate.opens:
                raise GateShut(version.name, label, gate)
            place = store.epoch_in(connection)
            if before is None:
                try:
                    steps = steps_for(live_bar(version.template, bar))
                except ValueError as error:
                    raise CanaryRefused(str(error)) from error
                trial = Trial(prompt, label, number, tier, builds, out, by.name[:128], store.now(), Canary(steps))
                write_trial(connection, trial, place)
            else:
                trial = replace(before, excluded=out, canary=before.canary.resumed())
                _put(connection, trial, place)
            self._log(connection, trial, at, by.name, message)
            return trial

    def stop(self, prompt: str, label: str, *, expected: int | None, by: Who, message: str = "") -> Trial:
        """From now on *label* is where it is for all requests; nothing happens to a canary that does not run.

        Raises PromptNotFound where there is none; LabelRefused, LabelMoved, NotPermitted.
        """
        with self._store.writing() as connection:
            self._store.rule_in(connection, label, by)
            at = self._pointed(connection, prompt, label, expected)
            trial = _last(connection, prompt, label, locked=True)
            if trial is None:
                raise no_canary(prompt, label)
            if not trial.runs:
                return trial
            stopped = replace(trial, canary=trial.canary.stopped(f"stopped by {by.name}"))
            _put(connection, stopped)
            self._log(connection, stopped, at, by.name, message)
            return stopped

    def tell_in(
        self, connection: Connection, prompt: str, number: int, observed: Sequence[Observed], terms: Terms
    ) -> None:
        """What became of answers of version *number*, to the canary that tries it, if any does: those that were given
        since it began. In a transaction that has written already. Raises Contended.
        """
        trial = _running(connection, prompt, number)
        if trial is None:
            return
        version = self._store.version_in(connection, prompt, number)
        bar, canary = live_bar(version.template, terms.bar), trial.canary
        for one in observed:
            if one.served_at >= trial.began_at.timestamp():
                canary = canary.observed(one, bar, terms.rules)
        self._change(connection, trial, canary)

    def watched(self, prompt: str, number: int, shown: Shown) -> None:
        """What run-time evidence says of the version on the tier that it is tried on."""
        with self._store.writing() as connection:
            trial = _running(connection, prompt, number, locked=True)
            if trial is not None:
                self._change(connection, trial, trial.canary.watched(shown))

    def _change(self, connection: Connection, trial: Trial, canary: Canary) -> None:
        before = trial.canary
        if canary == before:
            return
        later = replace(trial, canary=canary)
        if (canary.stage, canary.place) == (before.stage, before.place):
            _put(connection, later)
            return
        self._store.raise_epoch_in(connection)  # before the row: whoever begins or stops one has that first, too
        _put(connection, later)
        at = self._store.labels_in(connection, trial.prompt)[trial.label]
        if canary.stage is not Stage.WHOLE:
            self._log(connection, later, at, ITSELF)
            return
        try:
            self._move(connection, later, at)
        except LibraryError as error:  # nothing of the move is written then
            why = f"{canary.why}; {trial.label} does not move: {str(error).splitlines()[0]}"
            waits = replace(canary, stage=Stage.WIDENING, why=why)
            _put(connection, replace(later, canary=waits, revision=later.revision + 1))

    def _move(self, connection: Connection, trial: Trial, at: Pointed) -> None:
        """Through the gate. Who began it was let to move the label."""
        rule = self._store.policy_in(connection).labels.get(trial.label, NO_POLICY)
        by, says = Who(ITSELF, frozenset(rule.roles)), f"{_says(trial)}; begun by {trial.by}"
        self._store.move_in(
            connection, trial.prompt, trial.label, trial.number, at.number, by, trial.excluded, None, says
        )

    def _log(self, connection: Connection, trial: Trial, at: Pointed, by: str, message: str = "") -> None:
        says = f"{_says(trial)}; {message}" if message else _says(trial)
        line = (trial.prompt, trial.label, at.number, at.number, at.excluded, by[:128], says[:MOST_WORDS])
        log_move(connection, Move(*line, self._store.now()))

    def _pointed(self, connection: Connection, prompt: str, label: str, expected: int | None) -> Pointed:
        at = self._store.labels_in(connection, prompt).get(label)
        current = None if at is None else at.number
        if current != expected:
            raise LabelMoved(prompt, label, expected, current)
        if at is None:
            raise CanaryRefused(f"{label} points to no version of {prompt} yet; move it to one, that others stay with")
        return at

    def _builds(self, connection: Connection, version: Version, tier: str, excluded: frozenset[str]) -> tuple[str, ...]:
        """Those that serve *tier*. Raises CanaryRefused where the version cannot be tried there."""
        policy, lineup = self._store.policy_in(connection), self._store.lineup
        safe = safe_tier_of(version.template, lineup, policy)
        routed = lineup.routed(version.template, policy)
        tiers = dict.fromkeys(place.tier for place in routed)
        cheaper = [name for name in tiers if name != safe and name not in excluded]
        if tier not in cheaper:
            there = f"it may be tried on {', '.join(cheaper)}" if cheaper else "it has none"
            raise CanaryRefused(f"{version.name} is tried on a tier under {safe}, not on {tier[:32]}; {there}")
        return tuple(place.build for place in routed if place.tier == tier)

    def _check_free(
        self, connection: Connection, version: Version, label: str, tier: str, builds: tuple[str, ...]
    ) -> Trial | None:
        """The same canary, if it was stopped; None where there was none of these builds. Raises CanaryRefused."""
        trials = trials_in(connection, version.template.id, locked=True)
        if (running := next((t for t in trials if t.runs and t.label == label), None)) is not None:
            raise CanaryRefused(f"{label} has a canary of version {running.number} on {running.tier}; stop it first")
        if (running := next((t for t in trials if t.runs and t.number == version.number), None)) is not None:
            raise CanaryRefused(f"{version.name} is tried under {running.label}; its outcomes are of those requests")
        same = (label, version.number, tier)
        before = next((t for t in trials if (t.label, t.number, t.tier) == same), None)
        if before is None or before.builds != builds:
            return None
        canary = before.canary
        match canary.stage:
            case Stage.BACK:
                raise CanaryRefused(f"{version.name} was tried and went back ({canary.why}); try a new version")
            case Stage.WHOLE:
                raise CanaryRefused(f"{version.name} was tried and has passed ({canary.why}); move the label to it")
        return before


def watch_canaries(store: CanaryStore, standing: Standing, knowledge: Knowledge) -> None:
    """End those of whose version an alarm has gone off on the tier that it is tried on."""
    for share in standing.shares.values():
        template = share.version.template
        for model in knowledge.models:
            shown = knowledge.about(template.key, model.build) if model.name in share.models else None
            if shown is not None and shown.verdict is Verdict.SUSPENDED:
                store.watched(template.id, share.version.number, shown)


def no_canary(prompt: str, label: str) -> PromptNotFound:
    return PromptNotFound(f"the label {label} of prompt {prompt!r} has had no canary")


def _says(trial: Trial) -> str:
    canary = trial.canary
    lead = f"canary of version {trial.number} on {trial.tier}"
    stage = f"takes {canary.share:.0%}" if trial.runs else f"is {canary.stage.value}"
    return f"{lead} {stage}: {canary.why}"


def _last(connection: Connection, prompt: str, label: str, *, locked: bool = False) -> Trial | None:
    trials = reversed(trials_in(connection, prompt, locked=locked))
    return next((trial for trial in trials if trial.label == label), None)


def _running(connection: Connection, prompt: str, number: int, *, locked: bool = False) -> Trial | None:
    trials = trials_in(connection, prompt, locked=locked)
    return next((trial for trial in trials if trial.runs and trial.number == number), None)


def _put(connection: Connection, trial: Trial, place: int | None = None) -> None:
    """Raises Contended where somebody else was faster."""
    if not replace_trial(connection, trial, place):
        raise Contended(f"the canary of {trial.name} is changed by several at once")
