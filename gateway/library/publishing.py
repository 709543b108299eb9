"""What a running process knows of the records, made anew when they have changed. Blocking; call from a thread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from gateway.library.errors import FolderRefused
from gateway.library.records import Trial
from gateway.library.standing import Standing, standing_of
from gateway.library.store import LibraryStore
from gateway.library.sync import Synced, sync
from prompts.library import Library
from router.canary import Stage

log = structlog.get_logger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Published:
    """All prompts, and where each version may be sent: what a runtime serves by."""

    library: Library
    standing: Standing


def utc_now() -> datetime:
    return datetime.now(UTC)


def publish(store: LibraryStore, before: Standing, now: Clock = utc_now) -> Published:
    """What the records say now. What *before* did not know of alarms and canaries is logged. Raises SQLAlchemyError,
    ValueError.
    """
    records = store.records()
    standing = standing_of(records, store.lineup, now(), before)
    for alarm in standing.alarms:
        if alarm not in before.alarms:
            log.warning("a prompt serves without proof", says=str(alarm))
    for trial in changed(before, standing):
        tell = log.warning if trial.canary.stage is Stage.BACK else log.info
        says = {"label": trial.label, "tier": trial.tier, "stage": trial.canary.stage, "says": trial.canary.why}
        tell("a canary has changed", version=trial.name, share=trial.canary.share, **says)
    return Published(records.library, standing)


def changed(before: Standing, now: Standing) -> Iterator[Trial]:
    """The canaries of *now* that another stage, or another share, has come to since *before*; or that are new and run.

    What had ended when this process began is nothing new.
    """
    for key, trial in now.trials.items():
        was = before.trials.get(key)
        if was is None or was.number != trial.number:
            if trial.runs:
                yield trial
        elif (was.canary.stage, was.canary.place) != (trial.canary.stage, trial.canary.place):
            yield trial


def published_since(store: LibraryStore, before: Standing, now: Clock = utc_now) -> Published | None:
    """None where nothing has changed, which one row says, and no override has run out meanwhile."""
    ran_out = before.until is not None and before.until <= now()
    return publish(store, before, now) if ran_out or store.epoch() != before.epoch else None


def take_files(store: LibraryStore, folder: Path, *, starting: bool) -> None:
    """Sync, and log what came of it. Files that cannot be read are refused whole: at the start they are logged, and
    what the records have serves. Raises FolderRefused otherwise; NumberTaken always.
    """
    try:
        done = sync(store, folder)
    except FolderRefused as error:
        if not starting:
            raise
        log.error("the folder of prompts is not taken, what was published serves", error=str(error))
        return
    _log(done)


def _log(done: Synced) -> None:
    for conflict in done.conflicts:
        log.error("files and records disagree, the records serve", says=str(conflict))
    for name in done.ahead:
        log.warning("the records are ahead of the files", version=name)
    if done.saved or done.suites:
        log.info("prompts were taken from files", versions=list(done.saved), suites=list(done.suites))
