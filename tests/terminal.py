"""A terminal for tests: runs commands in this process, as `main` does."""

import sys
from dataclasses import dataclass

import pytest

from gateway.cli import main


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


class Terminal:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["pointsman", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        captured = self._capsys.readouterr()
        return Said(int(left.value.code or 0), captured.out, captured.err)
