"""What the commands that make models smaller share: who does the work, on which texts, and how far it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.failed import CommandFailed
from gateway.cli.screen import count_bar
from gateway.settings import Settings
from models import compress, job
from models.torch_python import torch_python

TEXTS = Path(compress.__file__).parent / "texts"
CALIBRATION, MEASURING = TEXTS / "calibration.txt", TEXTS / "measuring.txt"
MODULES = ("torch", "transformers", "safetensors")
WORK = "compress"  # in the cache: what interrupted jobs have done

Source = Annotated[str, typer.Argument(help="a row of the catalogue, or a folder", metavar="ROW_OR_FOLDER")]
Out = Annotated[Path, typer.Option("--out", help="the folder to make; it appears when it is whole")]
Calibration = Annotated[
    Path,
    typer.Option(
        help="the text that a method with calibration looks at, of a page or more", exists=True, dir_okay=False
    ),
]


class CompressFailed(CommandFailed):
    """A model cannot be made smaller, taught or measured as asked; the message says why, and what to do."""


def do(settings: Settings, name: str, asked: Mapping[str, Any], says: str, *needs: str) -> dict[str, Any]:
    """The job *name* of `models.compress`, with a progress bar called *says*. *needs*: packages besides MODULES.

    Raises JobFailed, NoTorch. Interrupted, what it has done is kept, and the same command goes on from there.
    """
    python = torch_python((*MODULES, *needs), settings.torch_python)
    document = {"job": name, "settings": dict(asked), "work": str(settings.cache_dir / WORK)}
    with count_bar() as bar:
        task = bar.add_task(says, total=None)

        def show(step: job.Step) -> None:
            bar.update(task, description=f"{says}: {step.what}", completed=step.done, total=step.total or None)

        return job.run(python, "models.compress", document, show)


def text_of(path: Path) -> str:
    """Raises CompressFailed."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompressFailed(f"{path}: cannot be read as text: {error}") from error
