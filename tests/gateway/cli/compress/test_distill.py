"""`pointsman models distill` from the first text to the last exam, with a worker that copies and scripted models."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from sqlalchemy import insert

from gateway.cli.compress.rows import checkpoint_row, yaml_of
from gateway.ledger.database import open_database
from gateway.ledger.tables import responses
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call, Engine
from models.scripted import Say, Script, ScriptedEngine
from prompts.folder import load
from prompts.suite_file import load_suite
from tests.gateway.cli.compress.test_commands import RESULTS, Worker
from tests.models.checkpoints import write_checkpoint
from tests.terminal import Terminal

EXAMPLES = Path(__file__).parents[4] / "prompts" / "examples"
TAUGHT = {"examples": 3, "trained_parameters": 1000, "steps": 4, "kept_step": 2, "losses": [{"step": 0}]}
SAFE = {"name": "safe", "engine": "scripted", "tier": 5, "context_tokens": 1000}


def answers() -> dict[str, str]:
    folder = load(EXAMPLES)
    home = folder.prompts["tenants"].documents["base"].file.path.parent
    return {case.vars["message"]: case.assertions[0].value for case in load_suite(home, folder.policy.tiers).cases}


RIGHT = answers()


def knows(call: Call) -> Script:
    return [Say(RIGHT.get(call.body["messages"][-1]["content"], "repairs"))]


@pytest.fixture
def place(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[Worker, dict[str, ScriptedEngine]]:
    """A student `whole` that never knows, a safe tier that does, and whatever else is asked: the pupil, who does
    too.
    """
    worker = Worker()
    monkeypatch.setattr("models.job.run", worker)
    monkeypatch.setattr("gateway.cli.compress.running.torch_python", lambda *_: Path("python"))
    monkeypatch.setitem(RESULTS, "distill", TAUGHT)
    student = checkpoint_row(write_checkpoint(tmp_path / "whole"), None, "transformers")
    rows = [*yaml.safe_load(yaml_of(student)), SAFE]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"models": rows}))
    for name, value in {"CATALOG": "catalog.yaml", "CACHE_DIR": "cache", "DATA_DIR": "data"}.items():
        monkeypatch.setenv(f"POINTSMAN_{name}", str(tmp_path / value))
    monkeypatch.setenv("POINTSMAN_MODELS", "all")
    engines = {"whole": ScriptedEngine("whole", lambda _: [Say("what?")]), "safe": ScriptedEngine("safe", knows)}

    def make(catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
        return {m.name: [engines.setdefault(m.name, ScriptedEngine(m.name, knows))] for m in catalog}

    monkeypatch.setattr("gateway.cli.engines.make_engines", make)
    monkeypatch.setattr("gateway.cli.engines.fetch", lambda *_: None)
    return worker, engines


def distill(terminal: Terminal, out: Path, *more: str) -> Any:
    return terminal.run(
        "models", "distill", "whole", "--prompt", "tenants", "--dir", str(EXAMPLES), "--out", str(out), *more
    )


def test_a_pupil_is_examined_on_what_it_never_saw_before_and_after(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path
) -> None:
    worker, engines = place
    out = tmp_path / "pupil"

    said = distill(terminal, out)

    assert said.code == 0, said.err
    card = json.loads((out / "card.json").read_text())
    assert [(exam["passed"], exam["total"]) for exam in card["exams"]] == [(0, 42), (42, 42)]
    [(_, asked)] = [one for one in worker.asked if one[0] == "distill"]
    held_out = {m for m in RIGHT if f'"{m}"' in json.dumps([c.body for c in engines["pupil"].calls])}
    taught = {row["messages"][-1]["content"] for row in (*asked["examples"], *asked["validation"])}
    assert len(held_out) == 42
    assert not held_out & taught
    assert not list(tmp_path.glob(".*.making"))
    [row] = yaml.safe_load((out / "row.yaml").read_text())
    assert row["name"] == "pupil"
    assert "0/42" in said.out
    assert "42/42" in said.out


def test_what_a_pupil_has_learnt_counts_for_nothing_when_its_suite_is_run(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path
) -> None:
    """42 of 162 cases are left of the pupil's, and all of the others'."""
    distill(terminal, tmp_path / "pupil")
    rows = yaml.safe_load((tmp_path / "pupil" / "row.yaml").read_text())
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"models": [*rows, SAFE]}))

    said = terminal.run("prompts", "test", "tenants", "--dir", str(EXAMPLES))

    assert "42 of 162 cases count" in said.out
    assert said.out.count("cases count") == 1
    assert "162/162" in said.out  # the safe tier's
    assert "42/42" in said.out


def test_what_was_taught_is_not_taught_again_where_the_exam_was_interrupted(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, _ = place
    out = tmp_path / "pupil"

    async def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("gateway.cli.compress.distill.sat", stop)
        assert distill(terminal, out).code == 130
    assert not out.exists()
    assert distill(terminal, out).code == 0

    assert [job for job, _ in worker.asked] == ["distill"]
    assert out.is_dir()


def test_another_wish_is_taught_anew(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, _ = place

    async def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("gateway.cli.compress.distill.sat", stop)
        distill(terminal, tmp_path / "pupil")
    assert distill(terminal, tmp_path / "pupil", "--epochs", "2").code == 0

    assert [asked["teaching"]["epochs"] for _, asked in worker.asked] == [4, 2]


def test_the_safe_tier_is_asked_once_for_an_answer(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path
) -> None:
    """A second pupil is taught from the answers that are kept."""
    _, engines = place
    data = tmp_path / "data.jsonl"
    data.write_text('{"vars": {"message": "The basin in the guest room has come away."}}\n')

    for name in ("one", "two"):
        said = distill(terminal, tmp_path / name, "--data", str(data))
        assert said.code == 0, said.err
        assert "1 answers of the teacher" in said.out

    assert len(engines["safe"].calls) == 1


def test_kept_responses_teach_only_with_their_callers_consent(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path
) -> None:
    """Whole answers of the safe tier to this prompt that have not expired."""
    worker, _ = place
    given = {
        "status": "completed",
        "model": "safe",
        "metadata": {"pointsman_teach": "yes"},
        "prompt": {"id": "tenants", "variables": {"message": "The basin has come away."}},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "repairs"}]}],
    }
    others: list[dict[str, Any]] = [
        {"metadata": {}},
        {"metadata": {"pointsman_teach": "no"}},
        {"model": "whole"},
        {"status": "incomplete"},
        {"prompt": {"id": "another", "variables": {"message": "x"}}},
        {"prompt": None},
    ]
    now = datetime.now(UTC)
    database = open_database(f"sqlite:///{tmp_path / 'data' / 'pointsman.db'}")
    with database.begin() as connection:
        for n, more in enumerate([{}, *others, {"expired": True}]):
            row = {
                "id": f"r{n}",
                "caller": "c",
                "created_at": now,
                "expires_at": now + timedelta(days=-1 if "expired" in more else 1),
                "items": "[]",
                "document": orjson.dumps({**given, **more}).decode(),
            }
            connection.execute(insert(responses).values(row))
    database.dispose()

    said = distill(terminal, tmp_path / "pupil", "--from-responses")

    assert said.code == 0, said.err
    assert "1 answers given" in said.out
    assert worker.asked[0][1]["examples"][-1]["messages"][-1]["content"] == "The basin has come away."


def test_a_suite_without_train_cases_is_told(
    terminal: Terminal, place: tuple[Worker, dict[str, ScriptedEngine]], tmp_path: Path
) -> None:
    folder = tmp_path / "prompts" / "say"
    folder.mkdir(parents=True)
    (folder / "say.prompt.yaml").write_text(
        "inputs: {type: object, properties: {a: {type: string}}}\nmessages: [{role: user, content: '{{ a }}'}]\n"
    )
    (folder / "tests.yaml").write_text("tests: [{vars: {a: x}, assert: [{type: contains, value: y}]}]\n")

    said = terminal.run(
        "models", "distill", "whole", "--prompt", "say", "--dir", str(folder.parent), "--out", str(tmp_path / "pupil")
    )

    assert said.code == 1
    assert "0 train cases and 0 validation cases say their answer (equals)" in said.err
