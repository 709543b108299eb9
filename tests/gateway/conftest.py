"""Logs of these tests: with tracebacks, but without the values of every variable, which take seconds to format; and
`terminal`, in which commands run.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.terminal import Terminal


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    """One whose settings point to a folder of its own and to the catalogue that ships."""
    for name in [name for name in os.environ if name.startswith("POINTSMAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_CONFIG", "")  # so that what --config sets ends with the test
    monkeypatch.chdir(tmp_path)  # no pointsman.yaml but one that the test writes
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("POINTSMAN_CACHE_DIR", str(tmp_path / "cache"))
    return Terminal(monkeypatch, capsys)
