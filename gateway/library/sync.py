"""Files and records, two doors to one library: what is new in the files becomes a version, by the hash of its content.

Both sides remember the last content that they agreed on: the files in `prompts.lock`, the records in `prompt_files`. If
only the files have changed since, that is a new version; if only the records have, they are ahead and nothing is
written; if both have, it is a conflict, which is shown and never merged. Drafts are nobody's change. No label moves.

A suite and the policy have one door each while there are files: `library.yaml` is the policy, and with `source: files`
a `tests.yaml` is the suite; with `source: records` only until there is another.
"""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

import structlog
from sqlalchemy import Connection, delete, insert, select

from gateway.ledger.tables import prompt_files, prompt_versions
from gateway.library.errors import FolderRefused, NumberTaken
from gateway.library.lock import LOCK, Locked, read_lock, write_lock
from gateway.library.records import DRAFTS
from gateway.library.store import LibraryStore
from prompts.folder import Folder, load
from prompts.folder import Prompt as FilePrompt
from prompts.reading import LoadRefused
from prompts.suite import Suite
from prompts.suite_file import SuiteError, load_suite

log = structlog.get_logger(__name__)

Side = Literal["files", "records"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides have changed since *base*; None where they never agreed. Each is the name of a place."""

    prompt: str
    base: str | None
    file: str
    record: str

    def __str__(self) -> str:
        base = self.base or "nothing that both had"
        return (
            f"{self.prompt}: changed on both sides since {base}: {self.file} and {self.record}; "
            "compare them, and say which side to keep"
        )


@dataclass(frozen=True, slots=True)
class Synced:
    """`saved`: new versions. `ahead`: versions of the records that the files do not have."""

    saved: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


class _OnlyLooked(Exception):
    """Nothing is to be kept of it."""


def look(store: LibraryStore, root: Path) -> Synced:
    """What `sync` would do now; nothing is changed. Raises what it does."""
    read = _read(root)
    done = Synced()
    with suppress(_OnlyLooked), store.writing() as connection:
        done, _ = _take(store, connection, read, "files", None)
        raise _OnlyLooked
    return done


def sync(store: LibraryStore, root: Path, *, author: str = "files", keep: Side | None = None) -> Synced:
    """Take what the folder *root* has, all of it or nothing. *keep*: whose content stands where both have changed.

    Raises FolderRefused with a line for every mistake, and NumberTaken where a version has two contents.
    """
    read = _read(root)
    with store.writing() as connection:
        done, locked = _take(store, connection, read, author, keep)
    _lock(root, locked)
    return done


class Step(Enum):
    """What is to be done with one prompt's files."""

    AGREED = "both have the same"
    NEW = "a new version"
    AHEAD = "the records have moved on, the files have not"
    LEFT = "the files are known, and left behind"
    CONFLICT = "both have changed"


@dataclass(frozen=True, slots=True)
class Known:
    """What the records have of one prompt: numbers by digest, the newest that is no draft, and what was agreed on."""

    numbers: Mapping[str, int]
    head: int = 0
    agreed: str | None = None
    head_then: int = 0


def step(digest: str, known: Known, keep: Side | None = None) -> Step:
    """Of files whose content has *digest*."""
    number, moved_on = known.numbers.get(digest), known.head > known.head_then
    if digest == known.agreed:
        return Step.AHEAD if moved_on or number is None else Step.AGREED
    if not moved_on or number == known.head or keep == "files":
        return Step.NEW if number is None else Step.AGREED
    return Step.CONFLICT if keep is None else Step.LEFT


def read_folder(root: Path) -> tuple[Folder, Mapping[str, Suite]]:
    """The prompts and their suites. Raises FolderRefused."""
    try:
        folder = load(root)
    except LoadRefused as error:
        raise FolderRefused(str(error)) from error
    except OSError as error:
        raise FolderRefused(f"{root}: cannot be read: {error.strerror}; see POINTSMAN_PROMPTS__FOLDER") from error
    suites: dict[str, Suite] = {}
    faults: list[str] = []
    for prompt_id, prompt in folder.prompts.items():
        if (found := prompt.tests or prompt.cases) is not None:
            try:
                suites[prompt_id] = load_suite(found.parent, folder.policy.tiers or None)
            except SuiteError as error:
                faults.append(str(error))
    if faults:
        raise FolderRefused("\n".join(faults))
    return folder, suites


@dataclass(frozen=True, slots=True)
class _Read:
    root: Path
    folder: Folder
    suites: Mapping[str, Suite]
    locked: Mapping[str, Locked]


def _read(root: Path) -> _Read:
    folder, suites = read_folder(root)
    return _Read(root, folder, suites, read_lock(root))


def _take(
    store: LibraryStore, connection: Connection, read: _Read, author: str, keep: Side | None
) -> tuple[Synced, Mapping[str, Locked]]:
    """What came of it, and what the lock file is to say."""
    names: dict[Step, list[str]] = defaultdict(list)
    conflicts: list[Conflict] = []
    locked: dict[str, Locked] = {}
    store.set_policy_in(connection, read.folder.policy)
    for prompt_id, prompt in sorted(read.folder.prompts.items()):
        digest, lock = prompt.template.digest, read.locked.get(prompt_id)
        known = _known(connection, prompt_id, lock)
        _check_number(store, read.root, prompt_id, lock, known)
        todo, number = step(digest, known, keep), known.numbers.get(digest)
        if todo is Step.CONFLICT:
            conflicts.append(_conflict(store, prompt, known))
        elif todo is Step.NEW:
            pinned = lock.version if lock is not None and lock.digest == digest else None
            parent = known.numbers.get(known.agreed or "")
            number = store.save_in(connection, prompt.template, "file", author, "", parent, pinned).number
        if todo in (Step.NEW, Step.AGREED) and digest != known.agreed:
            _agree(connection, prompt_id, digest, max(number or 0, known.head))
        elif todo is Step.LEFT:
            _agree(connection, prompt_id, digest, known.head)
        names[todo].append(f"{prompt_id}@{number if todo is Step.NEW else known.head}")
        if number is not None:
            locked[prompt_id] = Locked(number, digest)
        elif lock is not None:
            locked[prompt_id] = lock
    suites = [prompt_id for prompt_id in read.suites if _set_suite(store, connection, read, prompt_id)]
    ahead = names[Step.AHEAD] + names[Step.LEFT]
    return Synced(tuple(names[Step.NEW]), tuple(ahead), tuple(suites), tuple(conflicts)), locked


def _known(connection: Connection, prompt_id: str, lock: Locked | None) -> Known:
    c = prompt_versions.c
    rows = connection.execute(select(c.digest, c.number, c.origin).where(c.prompt == prompt_id)).all()
    numbers = {row.digest: row.number for row in rows}
    head = max((row.number for row in rows if row.origin not in DRAFTS), default=0)
    agreed = connection.execute(select(prompt_files).where(prompt_files.c.prompt == prompt_id)).one_or_none()
    if agreed is not None:
        return Known(numbers, head, agreed.digest, agreed.head)
    if lock is not None and lock.digest in numbers:  # a database that has not seen these files
        return Known(numbers, head, lock.digest, numbers[lock.digest])
    return Known(numbers, head, None, 0)


def _check_number(store: LibraryStore, root: Path, prompt_id: str, lock: Locked | None, known: Known) -> None:
    """Raises NumberTaken."""
    if lock is None:
        return
    there = next((digest for digest, number in known.numbers.items() if number == lock.version), None)
    if there is not None and there != lock.digest:
        raise NumberTaken(
            f"{prompt_id}@{lock.version} is {lock.digest[:12]} in {root / LOCK} and {there[:12]} in {store.where}; "
            "they are two libraries: use the other database or the other folder, or delete the line in the lock file"
        )


def _conflict(store: LibraryStore, prompt: FilePrompt, known: Known) -> Conflict:
    prompt_id = prompt.template.id
    base = known.numbers.get(known.agreed or "")
    path = prompt.documents["base"].file.path
    return Conflict(
        prompt_id,
        None if base is None else f"{prompt_id}@{base}",
        f"{path} ({prompt.template.digest[:12]})",
        f"{prompt_id}@{known.head} in {store.where}",
    )


def _agree(connection: Connection, prompt_id: str, digest: str, head: int) -> None:
    connection.execute(delete(prompt_files).where(prompt_files.c.prompt == prompt_id))
    connection.execute(insert(prompt_files).values(prompt=prompt_id, digest=digest, head=head))


def _set_suite(store: LibraryStore, connection: Connection, read: _Read, prompt_id: str) -> bool:
    """Whether it was set."""
    suite, now = read.suites[prompt_id], store.suite_in(connection, prompt_id)
    if now == suite or (now is not None and read.folder.policy.source == "records"):
        return False
    store.add_suite_in(connection, prompt_id, suite, "files")
    return True


def _lock(root: Path, locked: Mapping[str, Locked]) -> None:
    try:
        write_lock(root, locked)
    except OSError as error:  # a folder that is mounted read-only brings its own
        log.warning("prompts.lock is not written", folder=str(root), error=error.strerror)
