"""What the commands that make models smaller share: where a checkpoint is, who does the work, how far it is."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.screen import count_bar
from gateway.settings import Settings
from models.compress.job import Refused, Step
from models.compress.process import do

TEXTS = Path(__file__).resolve().parents[3] / "models" / "compress" / "texts"
CALIBRATION, MEASURING = TEXTS / "calibration.txt", TEXTS / "measuring.txt"

Out = Annotated[Path, typer.Option("--out", help="the folder to make; it appears when it is whole")]
Calibration = Annotated[
    Path, typer.Option(help="the text to calibrate on, of a page or more", exists=True, dir_okay=False)
]


class CompressFailed(Exception):
    """A model cannot be made smaller, taught or measured as asked; the message says why, and what to do."""


def work(settings: Settings, job: str, job_settings: Mapping[str, Any], says: str) -> dict[str, Any]:
    """Let *job* be done, with a progress bar that is called *says*. Raises CompressFailed."""
    with count_bar() as bar:
        task = bar.add_task(says, total=None)

        def show(step: Step) -> None:
            bar.update(task, description=f"{says}: {step.says}", completed=step.done, total=step.total)

        try:
            return do(torch_python(), job, job_settings, settings.cache_dir / "compress", show)
        except Refused as refused:
            raise CompressFailed(str(refused)) from refused


def torch_python() -> Path:
    named = os.environ.get("POINTSMAN_TORCH_PYTHON")
    return Path(named or shutil.which("python") or sys.executable)
