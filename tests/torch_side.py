"""Where the Python is that has torch, for tests that start engines in it."""

import os
from pathlib import Path

import pytest

MADE = Path(__file__).parents[1] / ".venv-torch" / "bin" / "python"  # by make torch


def torch_side() -> Path:
    """The one that POINTSMAN_TORCH_PYTHON names, else the one that make torch made; skips where there is none."""
    named = os.environ.get("POINTSMAN_TORCH_PYTHON")
    if named is None and not MADE.exists():
        pytest.skip("needs the Python that has torch: make torch")
    return Path(named) if named is not None else MADE
