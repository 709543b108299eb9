"""pointsman prompts promote, rollback, history, status: which version each label points to, and what it has proved."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.prompts.place import PromptId, PromptsFailed
from gateway.cli.prompts.published import library_store, operator
from gateway.cli.prompts.trials import say
from gateway.cli.screen import console, table
from gateway.library.documents import alarms_of
from gateway.library.errors import GateShut
from gateway.library.publishing import utc_now
from gateway.library.records import Move, Override
from gateway.library.standing import Alarm, Standing, standing_of
from gateway.library.store import NO_POLICY, LibraryStore
from gateway.settings import load_settings
from prompts.library import Version
from prompts.reference import PRODUCTION, reference
from router.gate import Gate

PROMOTE_HELP = """Let a label point to a version: that is all that publishing is. Gateways follow within two seconds.

A gated label, as production is by default, moves only to a version that has shown on every tier it may be sent to that
it holds its bars; the table says what is missing. A tier that fails can be left out with --exclude: the version is then
never sent there. --override goes past the gate until a date, for a role that library.yaml names, and is in the history.

Examples:

pointsman prompts promote support/triage 4

pointsman prompts promote support/triage latest --exclude small
"""
ROLLBACK_HELP = """Let a label point to the version before, or to --to, where it once was. The gate is asked as ever.

Where the receipts of that version are still valid, it opens at once.
"""
HISTORY_HELP = "Show the versions of a prompt, and every move of its labels: when, who, and past which bars."
STATUS_HELP = """Show for each prompt its versions, where its labels are, and the tiers that each has proved.

Below the table: what has not been proved, or is no longer, and why. "(not proved)" and an alarm say that a version is
under a gated label with its gate shut, as a build, a suite, a bar or the policy is another since: it stays there, and
is sent only where it has proved itself, or to the safe tier.
"""
Label = Annotated[str, typer.Option(help="the label to move")]
Exclude = Annotated[list[str] | None, typer.Option(help="never send the version to this tier; may be repeated")]
Reason = Annotated[str | None, typer.Option("--override", help="go past a shut gate, and why", metavar="REASON")]
Until = Annotated[str | None, typer.Option(help="when the override ends: 2027-01-31, or 3d", metavar="DATE")]
Role = Annotated[str | None, typer.Option(help="the role in which you do it, as library.yaml names it")]
Message = Annotated[str, typer.Option("--message", "-m", help="why, for the history")]


def promote(
    prompt_id: PromptId,
    version: Annotated[str, typer.Argument(help="its number, or latest, or another label")],
    label: Label = PRODUCTION,
    exclude: Exclude = None,
    override: Reason = None,
    until: Until = None,
    role: Role = None,
    message: Message = "",
) -> None:
    with library_store(load_settings()) as store:
        library = store.library()
        found = library.find(reference(prompt_id, version))
        expected = library.labels.get(prompt_id, {}).get(label)
        if library.policy.labels.get(label, NO_POLICY).gated:
            show_gate(found, store.gate(prompt_id, found.number, exclude or ()))
        past = _override(override, until, role)
        try:
            move = store.move_label(
                prompt_id,
                label,
                found.number,
                expected=expected,
                by=operator(role),
                excluded=exclude or (),
                override=past,
                message=message,
            )
        except GateShut as error:
            raise PromptsFailed(
                f"{found.name} may not become {label}: run pointsman prompts test {prompt_id}, then push; "
                "or leave a tier out with --exclude"
            ) from error
    _say(move)


def rollback(
    prompt_id: PromptId,
    label: Label = PRODUCTION,
    to: Annotated[int | None, typer.Option(help="the version, which the label must have pointed to once")] = None,
    override: Reason = None,
    until: Until = None,
    role: Role = None,
    message: Message = "",
) -> None:
    with library_store(load_settings()) as store:
        expected = store.library().labels.get(prompt_id, {}).get(label)
        try:
            move = store.rollback(
                prompt_id,
                label,
                expected=expected,
                by=operator(role),
                number=to,
                override=_override(override, until, role),
                message=message,
            )
        except GateShut as error:
            raise PromptsFailed(str(error)) from error
    _say(move)


def history(
    prompt_id: PromptId, label: Annotated[str | None, typer.Option(help="only the moves of this label")] = None
) -> None:
    with library_store(load_settings()) as store:
        saved, moves = store.saved(prompt_id), store.history(prompt_id, label)
    shown = table("version.", "digest", "made (UTC)", "from", "by", "says")
    for one in reversed(saved):
        number, digest = str(one.version.number), one.version.template.digest[:12]
        shown.add_row(number, digest, _minute(one.created_at), one.origin, escape(one.author), escape(one.message))
    console.print(shown)
    console.print()
    moved = table("label", "moved", "at (UTC)", "by", "says")
    for move in moves:
        stays = move.came_from == move.went_to
        went = f"stays at {move.went_to}" if stays else f"{move.came_from or '-'} to {move.went_to}"
        moved.add_row(move.label, went, _minute(move.at), escape(move.by), escape(_about(move)))
    console.print(moved if moves else "no label has moved")


def status(
    prompt_id: Annotated[str | None, typer.Argument(help="only this prompt", metavar="ID")] = None,
) -> None:
    with library_store(load_settings()) as store:
        records = store.records()
        if prompt_id is not None:
            records.library.find(reference(prompt_id, "latest"))
        names = [prompt_id] if prompt_id else sorted(records.library.versions)
        standing = standing_of(records, store.lineup, utc_now())
        shown = table("prompt", "version.", "labels", "sent to", "left out")
        reasons: list[str] = []
        for name in names:
            for version in _shown(records.library.versions[name], records.library.labels.get(name, {}).values()):
                at = records.library.labels.get(name, {})
                labels = [_marked(name, one, standing) for one, number in at.items() if number == version.number]
                tiers = _in_order(standing.of(version) or frozenset(), store)
                shown.add_row(name, str(version.number), ", ".join(labels), tiers, ", ".join(sorted(version.excluded)))
                gate = store.gate(name, version.number, version.excluded)
                reasons += [f"{version.name}: {row.tier}, {row.metric}: {row.why}" for row in gate.failing]
    if not names:
        console.print("the database has no prompts; take them in with: pointsman prompts push")
        return
    console.print(shown)
    for reason in reasons:
        console.print(f"[yellow]not proved[/] {escape(reason)}", highlight=False, soft_wrap=True)
    for trial in (trial for name in names for trial in records.trials.get(name, {}).values()):
        say(trial)
    for alarm in standing.alarms:
        if alarm.prompt in names:
            tell(alarm)


def _marked(prompt: str, label: str, standing: Standing) -> str:
    """With a word for one whose gate is shut: the version serves there, and would not get there now."""
    return f"{label} (not proved)" if alarms_of(standing, prompt, label) else label


def tell(alarm: Alarm) -> None:
    console.print(f"[bold red]alarm[/] {escape(str(alarm))}", highlight=False, soft_wrap=True)


def show_gate(version: Version, gate: Gate) -> None:
    """The matrix: each tier, each bar, what is proved, and why it does not hold."""
    console.print(f"[bold]{version.name}[/] ({version.template.digest[:12]})", highlight=False)
    shown = table("tier", "of", "passed.", "proven.", "bar.", "holds")
    for row in gate.rows:
        passed = f"{row.passed}/{row.total}" if row.receipt else "-"
        proven = "-" if row.bound is None else f"{row.bound:.2f}"
        holds = "[green]yes[/]" if row.holds else "[red]no[/]"
        shown.add_row(row.tier, row.metric, passed, proven, row.bar or "-", holds)
    console.print(shown)
    for row in gate.failing:
        console.print(f"[yellow]{row.tier}, {row.metric}:[/] {escape(row.why)}", highlight=False, soft_wrap=True)


def _shown(versions: Mapping[int, Version], labelled: Iterable[int]) -> list[Version]:
    """Those that a label points to, and the latest."""
    return [versions[number] for number in sorted({*labelled, max(versions)})]


def _in_order(tiers: frozenset[str], store: LibraryStore) -> str:
    policy = store.library().policy
    order = dict.fromkeys(place.tier for place in store.lineup.places(policy))
    return ", ".join(tier for tier in order if tier in tiers)


def _override(reason: str | None, until: str | None, role: str | None) -> Override | None:
    if reason is None and until is None:
        return None
    if reason is None or until is None or role is None:
        raise PromptsFailed("an override needs all three: --override REASON --until DATE --role ROLE")
    return Override(role, reason, _end(until))


def _end(text: str) -> datetime:
    """The end of that day in UTC; or so many days from now."""
    if text.endswith("d") and text[:-1].isdigit():
        return utc_now() + timedelta(days=int(text[:-1]))
    try:
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    except ValueError as error:
        raise PromptsFailed(f"--until {text}: write a day as 2027-01-31, or 3d for three days") from error


def _about(move: Move) -> str:
    parts = [move.message] if move.message else []
    parts += [f"without {', '.join(sorted(move.excluded))}"] if move.excluded else []
    if move.override is not None:
        past = ", ".join(f"{row['tier']} {row['metric']}" for row in move.failing)
        parts.append(f"past {past} until {move.override.until:%Y-%m-%d}, {move.override.role}: {move.override.reason}")
    return "; ".join(parts)


def _say(move: Move) -> None:
    before = f" (was {move.came_from})" if move.came_from is not None else ""
    out = f", without {', '.join(sorted(move.excluded))}" if move.excluded else ""
    console.print(f"{move.prompt}: {move.label} is version {move.went_to}{before}{out}", highlight=False)
    if move.override is not None:
        console.print(f"[yellow]past the gate until {move.override.until:%Y-%m-%d %H:%M} UTC[/]", highlight=False)


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
