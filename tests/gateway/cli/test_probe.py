"""`pointsman router probe`: a few prompts, a profile in the data directory, and a gateway that goes by it."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gateway.builder import load_knowledge_for, probed_folder
from gateway.served import served_catalog
from gateway.settings import Settings, load_settings
from models.catalog import Catalog
from models.engine import Call, Engine
from models.scripted import Say, Script, ScriptedEngine
from router.probed import read_probe_set, read_probed
from tests.terminal import Terminal

NEW = """
models:
  - {name: new, engine: scripted, tier: 0, context_tokens: 1000, price: {input_usd: 1, output_usd: 1}}
  - {name: safe, engine: scripted, tier: 1, context_tokens: 1000, price: {input_usd: 2, output_usd: 2}}
  - {name: embeds, engine: scripted, tier: 0, context_tokens: 1000, abilities: [embeddings]}
"""
SIZE = "30"


def half_right(call: Call) -> Script:
    return [Say("Answer: "), Say("yes" if len(call.body["messages"][-1]["content"]) % 2 else "no")]


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    rows = [
        {"id": p, "task": f"task {n % 3}", "prompt": f"Say it.\n{'x' * n}?", "answer": "yes", "grade": "exact"}
        for n, p in enumerate(read_probe_set())
    ]
    path = tmp_path / "ladder.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: Terminal) -> ScriptedEngine:
    """The one that every model is given; the catalogue has rows without weights."""
    (tmp_path / "catalog.yaml").write_text(NEW, encoding="utf-8")
    monkeypatch.setenv("POINTSMAN_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("POINTSMAN_MODELS", "all")
    scripted = ScriptedEngine("new", half_right)

    def made(catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
        return {model.name: [scripted] for model in catalog}

    monkeypatch.setattr("gateway.cli.ladder.make_engines", made)
    return scripted


def test_a_model_gets_its_profile_from_few_prompts_and_a_gateway_goes_by_it(
    terminal: Terminal, engine: ScriptedEngine, ladder: Path
) -> None:
    said = terminal.run("router", "probe", "new", "--ladder", str(ladder), "--prompts", SIZE)

    assert said.code == 0, said.err
    assert len(engine.calls) == int(SIZE)
    settings = load_settings()
    build = served_catalog(settings).models["new"].build
    found = read_probed(probed_folder(settings))
    assert (set(found.difficulty.models), len(found.outcomes)) == ({build}, int(SIZE))
    assert "new: profile fitted on 20 prompts; the other 10" in said.out
    knowledge = load_knowledge_for(served_catalog(settings), settings)
    assert build in knowledge.difficulty.models


def test_a_probe_goes_on_where_it_stopped(terminal: Terminal, engine: ScriptedEngine, ladder: Path) -> None:
    for size in (SIZE, "40"):
        assert terminal.run("router", "probe", "new", "--ladder", str(ladder), "--prompts", size).code == 0
    assert len(engine.calls) == 40


def test_a_gateway_starts_without_what_it_cannot_read(terminal: Terminal, engine: ScriptedEngine, ladder: Path) -> None:
    assert terminal.run("router", "probe", "new", "--ladder", str(ladder), "--prompts", SIZE).code == 0
    settings = load_settings()
    (probed_folder(settings) / "difficulty.json").write_text("{", encoding="utf-8")

    knowledge = load_knowledge_for(served_catalog(settings), settings)
    assert served_catalog(settings).models["new"].build not in knowledge.difficulty.models
    again = terminal.run("router", "probe", "new", "--ladder", str(ladder), "--prompts", SIZE)
    assert (again.code, "remove it" in again.err) == (1, True)


def test_what_is_missing_is_told_with_its_remedy(
    terminal: Terminal, engine: ScriptedEngine, ladder: Path, tmp_path: Path
) -> None:
    file = ("--ladder", str(ladder))
    for arguments, told in (
        (("nobody", *file), "it has: "),
        (("embeds", *file), "cannot chat"),
        (("new",), "pointsman router probe MODEL --ladder FILE"),
        (("new", "--ladder", str(tmp_path / "nothing.gz")), "nothing.gz"),
        (("--evaluate",), "--tables DIR"),
        (("--evaluate", "--tables", str(tmp_path / "nothing")), "is not a folder"),
    ):
        said = terminal.run("router", "probe", *arguments)
        assert (said.code, told in said.err) == (1, True), said.err
    ladder.write_bytes(gzip.compress(b""))
    empty = terminal.run("router", "probe", "new", *file)
    assert (empty.code, "take the file that the tables were made with" in empty.err) == (1, True)
    assert not engine.calls
