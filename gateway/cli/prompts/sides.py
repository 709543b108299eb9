"""pointsman prompts push, pull: what is new in the files goes to the database, and the other way round."""

from collections.abc import Iterator
from typing import Annotated, Literal

import typer
from rich.markup import escape

from gateway.cli.prompts.labels import tell
from gateway.cli.prompts.place import Dir, PromptsFailed, path_of, written
from gateway.cli.prompts.published import library_store, operator
from gateway.cli.prompts.receipts import kept_receipts
from gateway.cli.screen import console
from gateway.library.errors import ReceiptRefused
from gateway.library.publishing import utc_now
from gateway.library.records import DRAFTS
from gateway.library.standing import standing_of
from gateway.library.store import LibraryStore
from gateway.library.sync import read_folder, sync
from gateway.settings import Settings, load_settings
from prompts.files import files_of
from prompts.folder import ENDING, PARTIALS, TESTS, Folder
from prompts.library import PromptNotFound, Version
from prompts.reference import read_reference
from prompts.suite_document import document_of
from prompts.template import BASE
from prompts.writing import yaml_of

PUSH_HELP = """Take what is new in the files into the database: each new text becomes a version. No label moves.

Suites, library.yaml and the receipts that tests have left on this machine go with it. Where a prompt has changed on
both sides since they last agreed, nothing of it is taken and exit status is 1; --keep says whose text stands. Run it
twice and the second does nothing.
"""
PULL_HELP = """Write a prompt of the database into the folder: its newest version, or the one that is named.

Without a name every prompt is written that is newer in the database, or is not in the folder yet. Drafts are left out.
Files that say what the database does not have are kept, unless --force. Example: pointsman prompts pull
support/triage@production
"""


def push(
    directory: Dir = None,
    keep: Annotated[
        str | None, typer.Option(help="where both sides have changed: files or records, whose text stands")
    ] = None,
) -> None:
    sides: dict[str | None, Literal["files", "records"] | None] = {None: None, "files": "files", "records": "records"}
    if keep not in sides:
        raise PromptsFailed(f"--keep {keep}: it is files or records")
    settings = load_settings()
    root = path_of(directory)
    with library_store(settings) as store:
        before = standing_of(store.records(), store.lineup, utc_now())
        done = sync(store, root, author=operator().name, keep=sides[keep])
        taken = take_receipts(settings, store)
        after = standing_of(store.records(), store.lineup, utc_now(), before)
    for name in done.saved:
        console.print(f"[green]new[/] {name}", highlight=False)
    for name in done.suites:
        console.print(f"[green]tests[/] of {name}", highlight=False)
    for name in done.ahead:
        says = f"{name} is newer in the database; pointsman prompts pull {name} writes it here"
        console.print(f"[yellow]ahead[/] {says}", highlight=False, soft_wrap=True)
    for conflict in done.conflicts:
        console.print(f"[bold red]conflict[/] {escape(str(conflict))} (--keep)", highlight=False, soft_wrap=True)
    if taken:
        console.print(f"{taken} receipts", highlight=False)
    for alarm in after.alarms:
        if alarm not in before.alarms:
            tell(alarm)
    if not (done.saved or done.suites or done.ahead or done.conflicts or taken or after.alarms != before.alarms):
        console.print("nothing is new")
    raise typer.Exit(1 if done.conflicts else 0)


def take_receipts(settings: Settings, store: LibraryStore) -> int:
    """Give the database those of this machine that are about a text of its versions; returns how many were new."""
    library, taken = store.library(), 0
    waiting = list(kept_receipts(settings))
    for prompt, versions in library.versions.items():
        there = {receipt.id for receipt in store.receipts(prompt)}
        for receipt in waiting:
            told = {version.template.told(receipt.tier) for version in versions.values()}
            if receipt.id in there or receipt.binding.template not in told:
                continue
            try:
                store.add_receipt(prompt, receipt, author=operator().name)
            except ReceiptRefused as error:
                console.print(f"[yellow]{receipt.id} is not taken:[/] {escape(str(error))}", soft_wrap=True)
            else:
                taken += 1
    return taken


def pull(
    prompt_id: Annotated[
        str | None, typer.Argument(help="support/triage, or support/triage@4; all that are newer", metavar="ID")
    ] = None,
    directory: Dir = None,
    force: Annotated[bool, typer.Option("--force", help="write over files that say something else")] = False,
) -> None:
    settings = load_settings()
    root = path_of(directory)
    with library_store(settings) as store:
        folder, suites = read_folder(root)
        versions = [_wanted(store, prompt_id)] if prompt_id else list(_newer(store, folder))
        for version in versions:
            _pull(store, folder, version, with_tests=version.template.id not in suites, force=force)
        sync(store, root, author=operator().name)
    for version in versions:
        console.print(f"{version.name} is in {root / version.template.id}", highlight=False, soft_wrap=True)
    if not versions:
        console.print("nothing is newer in the database")


def _wanted(store: LibraryStore, named: str) -> Version:
    """Raises PromptNotFound, ReferenceRefused."""
    found = read_reference(named)
    return store.library().find(found) if "@" in named else _newest(store, found.id)


def _newest(store: LibraryStore, prompt_id: str) -> Version:
    """The latest that is no draft: a draft is nobody's text yet. Raises PromptNotFound."""
    finished = [saved.version for saved in store.saved(prompt_id) if saved.origin not in DRAFTS]
    if not finished:
        raise PromptNotFound(f"prompt {prompt_id!r} has drafts only; name one: {prompt_id}@NUMBER")
    return finished[-1]


def _newer(store: LibraryStore, folder: Folder) -> Iterator[Version]:
    """Of every prompt whose files are not there, or are an older version."""
    for prompt_id, versions in store.library().versions.items():
        here = folder.prompts.get(prompt_id)
        known = {version.template.digest for version in versions.values()}
        finished = any(saved.origin not in DRAFTS for saved in store.saved(prompt_id))
        if finished and (here is None or here.template.digest in known):
            newest = _newest(store, prompt_id)
            if here is None or here.template.digest != newest.template.digest:
                yield newest


def _pull(store: LibraryStore, folder: Folder, version: Version, *, with_tests: bool, force: bool) -> None:
    """Raises PromptsFailed where that would lose something."""
    prompt_id, root = version.template.id, folder.path
    here, home = folder.prompts.get(prompt_id), root / prompt_id
    known = {one.template.digest for one in store.library().versions[prompt_id].values()}
    if here is not None and here.template.digest not in known and not force:
        path = here.documents[BASE].file.path
        raise PromptsFailed(f"{path} says what the database does not have; push it first, or --force")
    files = {root / path: text for path, text in files_of(version.template).items()}
    others = {name for other in folder.prompts.values() if other is not here for name in other.template.partials}
    for name in version.template.partials:
        path = folder.path / PARTIALS / f"{name}.md"
        if name in others and path.exists() and path.read_text(encoding="utf-8") != files[path]:
            raise PromptsFailed(f"{path} says something else, which other prompts include; take it over by hand")
    suite = store.suite(prompt_id)
    if suite is not None and with_tests:
        files[home / TESTS] = yaml_of(document_of(suite))
    for old in home.glob(f"*{ENDING}") if home.is_dir() else ():
        if old not in files:
            old.unlink()
    written(files, over=True)
