"""Files and records, two doors to one library: what is new in the files becomes a version, by the hash of its content.

Both sides remember the last content that they agreed on: the files in `prompts.lock`, the records in `prompt_files`. If
only the files have changed since, that is a new version; if only the records have, they are ahead and nothing is
written; if both have, it is a conflict, which is shown and never merged. Drafts are nobody's change. No label moves.

A suite and the policy have one door each while there are files: `library.yaml` is the policy, and with `source: files`
a `tests.yaml` is the suite; with `source: records` only until there is another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What the records have of one prompt: numbers by digest, the newest that is no draft, and what was agreed on."""

    numbers: Mapping[str, int]
    head: int
    agreed: str | None
    head_then: int


def sync(store: LibraryStore, root: Path, *, author: str = "files", keep: Side | None = None) -> Synced:
    """Take what the folder *root* has, all of it or nothing. *keep*: whose content stands where both have changed.

    Raises FolderRefused with a line for every mistake, and NumberTaken where a version has two contents.
    """
    folder, suites = read_folder(root)
    locked = read_lock(root)
    saved: list[str] = []
    ahead: list[str] = []
    changed: list[str] = []
    conflicts: list[Conflict] = []
    now_locked: dict[str, Locked] = {}
    with store.writing() as connection:
        store.set_policy_in(connection, folder.policy)
        for prompt_id, prompt in sorted(folder.prompts.items()):
            lock, digest = locked.get(prompt_id), prompt.template.digest
            known = _known(connection, prompt_id, lock)
            _check_number(store, root, prompt_id, lock, known)
            if digest not in known.numbers and known.head > known.head_then and keep is None:
                conflicts.append(_conflict(store, prompt, known))
                if lock is not None:
                    now_locked[prompt_id] = lock
                continue
            if digest not in known.numbers and known.head > known.head_then and keep == "records":
                _agree(connection, prompt_id, digest, known.head)  # the files may stay behind
                ahead.append(f"{prompt_id}@{known.head}")
                continue
            number = known.numbers.get(digest)
            if number is None:
                pinned = lock.version if lock is not None and lock.digest == digest else None
                parent = known.numbers.get(known.agreed or "")
                version = store.save_in(connection, prompt.template, "file", author, "", parent, pinned)
                number = version.number
                saved.append(version.name)
            elif digest == known.agreed and known.head > known.head_then:
                ahead.append(f"{prompt_id}@{known.head}")
            now_locked[prompt_id] = Locked(number, digest)
            if digest != known.agreed:
                _agree(connection, prompt_id, digest, max(number, known.head))
        for prompt_id, suite in suites.items():
            if prompt_id in now_locked and _takes_suite(store, connection, folder, prompt_id, suite):
                store.add_suite_in(connection, prompt_id, suite, author)
                changed.append(prompt_id)
    _lock(root, now_locked)
    return Synced(tuple(saved), tuple(ahead), tuple(changed), tuple(conflicts))


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


def _known(connection: Connection, prompt_id: str, lock: Locked | None) -> _Known:
    c = prompt_versions.c
    rows = connection.execute(select(c.digest, c.number, c.origin).where(c.prompt == prompt_id)).all()
    numbers = {row.digest: row.number for row in rows}
    head = max((row.number for row in rows if row.origin not in DRAFTS), default=0)
    agreed = connection.execute(select(prompt_files).where(prompt_files.c.prompt == prompt_id)).one_or_none()
    if agreed is not None:
        return _Known(numbers, head, agreed.digest, agreed.head)
    if lock is not None and lock.digest in numbers:  # a database that has not seen these files
        return _Known(numbers, head, lock.digest, numbers[lock.digest])
    return _Known(numbers, head, None, 0)


def _check_number(store: LibraryStore, root: Path, prompt_id: str, lock: Locked | None, known: _Known) -> None:
    """Raises NumberTaken."""
    if lock is None:
        return
    there = next((digest for digest, number in known.numbers.items() if number == lock.version), None)
    if there is not None and there != lock.digest:
        raise NumberTaken(
            f"{prompt_id}@{lock.version} is {lock.digest[:12]} in {root / LOCK} and {there[:12]} in {store.where}; "
            "they are two libraries: use the other database or the other folder, or delete the line in the lock file"
        )


def _conflict(store: LibraryStore, prompt: FilePrompt, known: _Known) -> Conflict:
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


def _takes_suite(store: LibraryStore, connection: Connection, folder: Folder, prompt_id: str, suite: Suite) -> bool:
    now = store.suite_in(connection, prompt_id)
    return now is None or (folder.policy.source == "files" and now != suite)


def _lock(root: Path, locked: Mapping[str, Locked]) -> None:
    try:
        write_lock(root, locked)
    except OSError as error:  # a folder that is mounted read-only brings its own
        log.warning("prompts.lock is not written", folder=str(root), error=error.strerror)
