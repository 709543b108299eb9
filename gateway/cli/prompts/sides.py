"""pointsman prompts push, pull: what is new in the files goes to the database, and the other way round."""

from typing import Annotated, Literal

import typer
from rich.markup import escape

from gateway.cli.prompts.place import Dir, PromptId, PromptsFailed, path_of, written
from gateway.cli.prompts.published import library_store, operator
from gateway.cli.prompts.receipts import kept_receipts
from gateway.cli.screen import console
from gateway.library.errors import ReceiptRefused
from gateway.library.store import LibraryStore
from gateway.library.sync import read_folder, sync
from gateway.settings import Settings, load_settings
from prompts.files import files_of
from prompts.folder import TESTS
from prompts.reference import LATEST, read_reference, reference
from prompts.suite_document import document_of
from prompts.writing import yaml_of

PUSH_HELP = """Take what is new in the files into the database: each new text becomes a version. No label moves.

Suites, library.yaml and the receipts that tests have left on this machine go with it. Where a prompt has changed on
both sides since they last agreed, nothing of it is taken and exit status is 1; --keep says whose text stands. Run it
twice and the second does nothing.
"""
PULL_HELP = """Write a prompt of the database into the folder: its newest version, or the one that is named.

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
        done = sync(store, root, author=operator().name, keep=sides[keep])
        taken = take_receipts(settings, store)
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
    if not (done.saved or done.suites or done.ahead or done.conflicts or taken):
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
    prompt_id: PromptId,
    directory: Dir = None,
    force: Annotated[bool, typer.Option("--force", help="write over files that say something else")] = False,
) -> None:
    settings = load_settings()
    root = path_of(directory)
    with library_store(settings) as store:
        folder, suites = read_folder(root)
        named = read_reference(prompt_id)
        wanted = named if "@" in prompt_id else reference(named.id, LATEST)
        library = store.library()
        version = library.find(wanted)
        here = folder.prompts.get(wanted.id)
        known = {one.template.digest for one in library.versions[wanted.id].values()}
        if here is not None and here.template.digest not in known and not force:
            raise PromptsFailed(
                f"{here.documents['base'].file.path} says what the database does not have; push it first, or --force"
            )
        home = root / wanted.id
        files = {root / path: text for path, text in files_of(version.template).items()}
        others = {name for other in folder.prompts.values() if other is not here for name in other.template.partials}
        for path, text in files.items():
            is_partial = path.parent != home
            if is_partial and path.exists() and path.stem in others and path.read_text(encoding="utf-8") != text:
                raise PromptsFailed(f"{path} says something else, which other prompts include; take it over by hand")
        suite = store.suite(wanted.id)
        if suite is not None and wanted.id not in suites:
            files[home / TESTS] = yaml_of(document_of(suite))
        for old in home.glob("*.prompt.yaml") if home.is_dir() else ():
            if old not in files:
                old.unlink()
        written(files, over=True)
        sync(store, root, author=operator().name)
    for path in files:
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{version.name} is in {root}", highlight=False, soft_wrap=True)
