"""Where the checkpoint is of what an operator names: a folder, or a row of the catalogue."""

from dataclasses import dataclass
from pathlib import Path

from gateway.builder import checkpoint_store, model_store
from gateway.cli.compress.running import MODULES, CompressFailed
from gateway.cli.models import fetch
from gateway.cli.screen import count_bar
from gateway.settings import Settings
from models import job
from models.catalog import Model, load_catalog
from models.torch_python import torch_python
from models.weights import GgufSource

CONVERTED = "converted"  # in the cache: folders made of GGUF files


@dataclass(frozen=True, slots=True)
class Named:
    """What was named: its folder, and its row where it has one."""

    name: str
    folder: Path
    row: Model | None = None


def named(settings: Settings, what: str) -> Named:
    """Weights are fetched, and made whole again where they are a GGUF file. Raises CompressFailed, StoreError,
    JobFailed,
    NoTorch.
    """
    folder = Path(what)
    if folder.is_dir():
        return Named(folder.resolve().name, folder)
    catalog = load_catalog(settings.catalog)
    rows = {**catalog.models, **{row.name: row for row in settings.rows}}
    row = rows.get(what)
    if row is None:
        raise CompressFailed(f"{what} is no folder, and no row of the catalogue; it has: {', '.join(rows)}")
    if row.checkpoint is not None:
        fetch(settings, row)
        return Named(row.name, checkpoint_store(settings).path(row.checkpoint), row)
    if row.file is not None:
        return Named(row.name, _of_gguf(settings, row), row)
    raise CompressFailed(f"{row.name} has no weights of its own: another server holds them")


def _of_gguf(settings: Settings, row: Model) -> Path:
    """Made once, and kept in the cache."""
    assert row.file is not None
    whole = next((one for one in load_catalog(settings.catalog) if _is_made_of(one, row)), None)
    if whole is not None and whole.checkpoint is not None and checkpoint_store(settings).has(whole.checkpoint):
        return checkpoint_store(settings).path(whole.checkpoint)
    folder = settings.cache_dir / CONVERTED / row.file.sha256
    if folder.is_dir():
        return folder
    fetch(settings, row)
    folder.parent.mkdir(parents=True, exist_ok=True)
    asked = {"gguf": str(model_store(settings).path(row.file)), "folder": str(folder), "dtype": "bfloat16"}
    python = torch_python((*MODULES, "gguf"), settings.torch_python)
    with count_bar() as bar:
        task = bar.add_task(f"{row.name} made whole", total=None)

        def show(step: job.Step) -> None:
            bar.update(task, completed=step.done, total=step.total or None)

        job.run(python, "models.checkpoint_of_gguf", asked, show)
    return folder


def _is_made_of(row: Model, other: Model) -> bool:
    sources = row.checkpoint.sources if row.checkpoint else ()
    digests = [source.gguf.sha256 for source in sources if isinstance(source, GgufSource)]
    return other.file is not None and other.file.sha256 in digests
