"""pointsman cache evaluate: counts, judges, and records only when it is told to."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cache.evidence import read_tallies
from gateway.cli import app, cache
from router.bar import Tally
from tests.gateway.cache.worlds import Words


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "holds"), (50, "fails")])
def test_pairs_are_judged_by_the_operators_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int, verdict: str
) -> None:
    monkeypatch.setattr(cache, "EMBED_MAKER", Words)
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    alike = {"asked": "capital of France", "cached": "France, its capital"}
    lines = [json.dumps({**alike, "right": place >= wrong}) for place in range(100)]
    lines.append(json.dumps({"asked": "rain", "cached": "Paris", "right": False}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ["cache", "evaluate", "--template", "t", "--threshold", "0.9", "--pairs", str(tmp_path / "pairs.jsonl")]

    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "semantic@0.9 answers 100 of 101 pairs" in shown.output
    assert f"{verdict}: passed {100 - wrong}/100" in shown.output
    assert read_tallies(tmp_path / "data") == {}

    shown = CliRunner().invoke(app, [*command, "--record"])
    assert ("no request is answered by it" in shown.output) == (verdict == "fails")
    assert read_tallies(tmp_path / "data") == {("t", 0.9): Tally(100 - wrong, 100, wrong, 0, 100)}
