"""What `--json` prints is JSON and nothing else, so that it can be handed on."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import structlog
import typer

from gateway.cli.prompts import app
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Engine
from models.scripted import ScriptedEngine
from tests.gateway.cli.prompts.world import World, right

EXAMPLES = '{"input": "one", "output": "a"}\n'
CASES = "\n".join(
    json.dumps({"vars": {"text": f"y{n} among some words"}, "assert": [{"type": "equals", "value": "a"}]})
    for n in range(80)
)
CALLED: Mapping[str, Sequence[str]] = {
    "lint": ("prompts", "--tokens"),
    "render": ("sort", "--var", "text=x", "--dir", "prompts"),
    "generate": ("Say a.", "--name", "say", "--examples", "examples.jsonl", "--dir", "prompts", "--write"),
    "optimise": ("sort", "--dir", "prompts", "--budget-calls", "300"),
    "downshift": ("sort", "--dir", "prompts", "--budget-calls", "300"),
}


class Talking(ScriptedEngine):
    """Logs at every level, as engines that are started do."""

    async def start(self) -> None:
        for level in ("info", "warning"):
            getattr(structlog.get_logger("models.some"), level)("engine ready", model=self.model)
        await super().start()


def printing_json() -> set[str]:
    """The commands with a flag of that name; where it takes a file, nothing is printed for a program."""
    commands: Any = typer.main.get_command(app)
    return {
        name
        for name, command in commands.commands.items()
        if any("--json" in option.opts and option.is_flag for option in command.params)
    }


def test_every_command_that_prints_json_is_here() -> None:
    assert printing_json() == CALLED.keys()


@pytest.mark.parametrize("command", sorted(CALLED))
def test_standard_output_is_json_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def make(catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
        return {row.name: [Talking(row.name, right)] for row in catalog}

    monkeypatch.setattr("gateway.cli.engines.make_engines", make)
    (world.prompts / "sort/cases.jsonl").write_text(CASES, encoding="utf-8")
    world.prompts.with_name("examples.jsonl").write_text(EXAMPLES, encoding="utf-8")
    said = world.terminal.run("prompts", command, *CALLED[command], "--json")
    assert said.code == 0, said.err
    assert isinstance(json.loads(said.out), dict)
    if command != "render":
        assert "engine ready" in said.err, "what went wrong is told, beside it"
        assert said.err.count("engine ready") == said.err.count("warning"), "and no more than that"
