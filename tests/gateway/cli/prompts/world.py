"""A folder of prompts, and two scripted models that answer its tests, for commands to work on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import Call, Engine
from models.scripted import Say, Script, ScriptedEngine
from tests.prompts.trees import write
from tests.rig import CATALOG
from tests.terminal import Terminal

PROMPT = """\
name: sort
description: Sort it
modelParameters: {temperature: 0}
inputs:
  type: object
  required: [text]
  properties:
    text: {type: string, maxLength: 60, x-untrusted: true}
messages:
  - {role: system, content: "Say a or b."}
  - {role: user, content: "{{ text }}"}
"""
SMALL_PROMPT = 'messages:\n  - {role: user, content: "a or b? {{ text }}"}\n'
CASES = 20  # all passed, they prove 0.86
TESTS = "gate: {default: 0.8, tags: {hard: 0.2}}\ntests:\n" + "".join(
    f"  - {{id: c{n}, vars: {{text: 'x{n} a'}}, tags: [{'hard' if n % 4 == 0 else 'easy'}], "
    "assert: [{type: equals, value: a}]}\n"
    for n in range(CASES)
)
FILES = {
    "library.yaml": "tiers: [small, large]\nlabels:\n  production: {gated: true, roles: [owner]}\n  staging: {}\n",
    "sort/sort.prompt.yaml": PROMPT,
    "sort/sort.small.prompt.yaml": SMALL_PROMPT,
    "sort/tests.yaml": TESTS,
}
Playing = Callable[[Call], Script]


def right(call: Call) -> Script:
    return [Say("a")]


def wrong_on(*numbers: int) -> Playing:
    """Says b to the cases of these numbers."""
    wrong = tuple(f"x{number} a" for number in numbers)
    return lambda call: [Say("b" if call.body["messages"][-1]["content"].endswith(wrong) else "a")]


class World:
    """`calls` counts what each model was asked. Commands are run in *terminal*."""

    def __init__(self, terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.terminal = terminal
        self.prompts = write(folder / "prompts", FILES)
        self.plays: dict[str, Playing] = {"small": right, "large": right}
        self.engines: list[ScriptedEngine] = []
        (folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
        monkeypatch.setenv("POINTSMAN_CATALOG", str(folder / "catalog.yaml"))
        monkeypatch.setenv("POINTSMAN_MODELS", "all")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("gateway.cli.engines.make_engines", self._engines)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What the command says, to both; it must end with *code*."""
        said = self.terminal.run("prompts", *arguments)
        assert said.code == code, said.out + said.err
        return said.out + said.err

    @property
    def asked(self) -> dict[str, int]:
        counts = dict.fromkeys(self.plays, 0)
        for engine in self.engines:
            counts[engine.model] += len(engine.calls)
        return counts

    def _engines(self, catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
        made = {row.name: ScriptedEngine(row.name, self.plays[row.name]) for row in catalog}
        self.engines += made.values()
        return {name: [engine] for name, engine in made.items()}
