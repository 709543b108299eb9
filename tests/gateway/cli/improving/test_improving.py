"""`pointsman prompts generate`, `optimise` and `downshift`, with scripted models: what is told, what is written, and
that nothing changes unasked.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.prompts.published import library_store
from gateway.settings import Settings, load_settings
from models.catalog import Catalog
from models.engine import Call, Engine
from models.scripted import Say, Script, ScriptedEngine
from prompts.fitted import marks
from prompts.folder import load
from prompts.suite import Split
from prompts.suite_file import load_suite
from tests.prompts.optimise.helps import LABELS, follows_examples, label, number_in
from tests.terminal import Terminal

MODELS = """
models:
  - {name: little, engine: scripted, tier: 0, context_tokens: 1000, price: {input_usd: 1, output_usd: 1}}
  - {name: safe, engine: scripted, tier: 1, context_tokens: 1000, price: {input_usd: 9, output_usd: 9}}
"""
PROMPT = """\
inputs: {type: object, required: [text], properties: {text: {type: string, x-untrusted: true}}}
messages:
  - {role: system, content: Say left or right.}
  - {role: user, content: "{{ text }}"}
"""
CASES = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "prompts"
    (home / "turn").mkdir(parents=True)
    (home / "turn" / "turn.prompt.yaml").write_text(PROMPT, encoding="utf-8")
    (home / "turn" / "tests.yaml").write_text("gate: {default: 0.8}\n", encoding="utf-8")
    lines = [
        {"vars": {"text": f"word{n} among some"}, "assert": [{"type": "equals", "value": label(n)}]}
        for n in range(CASES)
    ]
    (home / "turn" / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return home


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: Terminal) -> Mapping[str, ScriptedEngine]:
    (tmp_path / "catalog.yaml").write_text(MODELS, encoding="utf-8")
    monkeypatch.setenv("POINTSMAN_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("POINTSMAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POINTSMAN_MODELS", "all")
    little = ScriptedEngine("little", lambda call: _said(follows_examples(8)(call.body["messages"])))
    made = {"little": little, "safe": ScriptedEngine("safe", _right)}

    def make(catalog: Catalog, settings: Settings) -> Mapping[str, Sequence[Engine]]:
        return {model.name: [made[model.name]] for model in catalog}

    monkeypatch.setattr("gateway.cli.engines.make_engines", make)
    return made


def _said(text: str) -> Script:
    return [Say(text)]


def _right(call: Call) -> Script:
    return _said(label(number_in(call.body["messages"])))


def _never(call: Call) -> Script:
    return _said("neither")


def document(terminal: Terminal, *arguments: str) -> Any:
    said = terminal.run("prompts", *arguments, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_downshift_says_what_the_gate_says_before_and_after(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    told = document(terminal, "downshift", "turn", "--dir", str(folder), "--search", "examples")
    held_out = len(load_suite(folder / "turn").only(Split.HELD_OUT).cases)
    texts = [(row["tier"], row["text"], row["total"]) for row in told["held_out"]]
    assert texts == [
        ("small", "as it is", held_out),
        ("small", "draft", held_out),
        ("large", "as it is", held_out),
        ("large", "that for small", held_out),
    ]
    assert [row["holds"] for row in told["gate"]["before"]] == [False]
    assert [row["holds"] for row in told["gate"]["after"]] == [True]
    assert told["moves"] is True
    assert told["held_out"][1]["passed"] == held_out
    assert told["held_out"][0]["wilson_95"][1] < 0.8


@pytest.mark.parametrize("knows_without_examples", [True, False])
def test_a_text_that_the_safe_tier_does_better_with_too_is_pointed_out(
    terminal: Terminal, engines: dict[str, ScriptedEngine], folder: Path, knows_without_examples: bool
) -> None:
    if not knows_without_examples:
        engines["safe"] = ScriptedEngine("safe", lambda call: _said(follows_examples(8)(call.body["messages"])))
    said = terminal.run("prompts", "downshift", "turn", "--dir", str(folder), "--search", "examples")
    assert said.code == 0, said.err
    assert ("large does better with that text, too" in said.out) is not knows_without_examples


def test_a_downshift_ends_with_a_canary_of_the_draft_where_that_is_asked_for(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    downshift = ("downshift", "turn", "--dir", str(folder), "--search", "examples", "--canary")
    told = terminal.run("prompts", *downshift)
    assert (told.code, "promote it first" in told.err) == (1, True)
    for arguments in (("push",), ("test", "turn"), ("push",)):
        terminal.run("prompts", *arguments, "--dir", str(folder))
    assert terminal.run("prompts", "promote", "turn", "1", "--exclude", "small").code == 0
    told = terminal.run("prompts", *downshift)
    assert told.code == 0, told.err
    assert "turn: production tries version 2 on small, widening with 5% of its requests" in told.out
    assert "turn: production tries version 2 on small" in terminal.run("prompts", "status", "turn").out
    said = " ".join(terminal.run("prompts", "history", "turn").out.split())
    assert "stays at 1" in said
    assert "optimised" in said
    assert "stop it first" in terminal.run("prompts", "canary", "turn@2").err
    assert "stopped (stopped by " in terminal.run("prompts", "canary", "turn", "--stop").out
    assert "say which version" in terminal.run("prompts", "canary", "turn").err


def test_downshift_and_promote_say_the_same_of_a_draft(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    """Word for word, by the cases that no search has seen: the draft itself says which it was made from."""
    at = ("--dir", str(folder))
    told = document(terminal, "downshift", "turn", *at, "--search", "examples", "--write")
    for arguments in (("test", "turn", *at), ("push", *at)):
        said = terminal.run("prompts", *arguments)
        assert said.code == 0, said.out + said.err
    with library_store(load_settings()) as store:
        rows = [row for row in store.gate("turn", 1).rows if row.tier == "small"]
    (after,) = told["gate"]["after"]
    assert [{**after, "why": row.why} for row in rows] == [{name: getattr(row, name) for name in after} for row in rows]
    assert after["why"] in rows[0].why
    held_out = len(load_suite(folder / "turn").only(Split.HELD_OUT).cases)
    assert (after["total"], rows[0].fitted) == (held_out, CASES - held_out)


def test_a_run_of_a_fitted_text_says_how_many_cases_count(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    at = ("--dir", str(folder))
    terminal.run("prompts", "optimise", "turn", *at, "--search", "examples", "--write")
    said = terminal.run("prompts", "test", "turn", "--tiers", "small", *at)
    held_out = len(load_suite(folder / "turn").only(Split.HELD_OUT).cases)
    assert f"{held_out} of {CASES} cases count: the text, or the model, was made from the others" in said.out
    assert f"{held_out}/{held_out}" in said.out


def test_held_out_cases_are_told_apart_by_the_variables_that_the_prompt_names(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    """By what each text gets right of them; where the last stratum is small, that can be seen."""
    with (folder / "turn" / "turn.prompt.yaml").open("a", encoding="utf-8") as file:
        file.write("routing: {stratify_by: [text]}\n")
    arguments = ("downshift", "turn", "--dir", str(folder), "--search", "examples")
    rows = document(terminal, *arguments)["held_out"]
    for row in rows:
        counts = row["strata"].values()
        assert [sum(column) for column in zip(*counts, strict=True)] == [row["passed"], row["total"]]
    said = terminal.run("prompts", *arguments)
    assert re.search(r"text=word\d+ among some +[01]/1 +1/1 +1/1 +1/1", said.out), said.out


def test_a_draft_of_a_draft_was_made_from_the_cases_of_both(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    (folder / "turn" / "turn.small.prompt.yaml").write_text(
        f"messages: [{{role: user, content: '{{{{ text }}}}'}}]\nfitted: ['{'0' * 12}']\n", encoding="utf-8"
    )
    terminal.run("prompts", "optimise", "turn", "--dir", str(folder), "--search", "examples", "--write")
    suite = load_suite(folder / "turn")
    seen = marks(suite.only(Split.TRAIN, Split.VALIDATION).cases)
    assert load(folder).prompts["turn"].template.fitted_on("small") == ("0" * 12, *seen)


def test_a_tier_that_the_prompt_is_never_sent_to_is_told_before_anything_is_asked(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    with (folder / "turn" / "turn.prompt.yaml").open("a", encoding="utf-8") as file:
        file.write("routing: {tiers: [large]}\n")
    said = terminal.run("prompts", "downshift", "turn", "--dir", str(folder))
    assert said.code == 1
    assert "never sent to small" in said.err
    assert not any(engine.calls for engine in engines.values())


def test_a_model_is_asked_as_the_prompt_says_and_for_the_form_that_it_says(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    with (folder / "turn" / "turn.prompt.yaml").open("a", encoding="utf-8") as file:
        file.write("modelParameters: {temperature: 0}\nresponseFormat: json_object\n")
    terminal.run("prompts", "optimise", "turn", "--dir", str(folder), "--search", "examples")
    for engine in engines.values():
        assert engine.calls
        assert all(call.body["temperature"] == 0 for call in engine.calls)
        assert all(call.body["response_format"] == {"type": "json_object"} for call in engine.calls)


def test_a_judge_is_asked_in_a_search_as_in_a_test_and_is_paid_from_its_budget(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    """The safe tier's model judges. What the table's answers cost is no part of it, as ever."""
    judged: list[str] = []

    def judging(call: Call) -> Script:
        if "You grade" not in call.body["messages"][0]["content"]:
            return _right(call)
        judged.append(str(call.body["messages"]))
        return _said('{"reason": "short", "score": 1, "pass": true}')

    engines["safe"].script = judging
    rubric = "defaultTest: {assert: [{type: llm-rubric, value: is one word}]}\n"
    (folder / "turn" / "tests.yaml").write_text(f"gate: {{default: 0.8}}\n{rubric}", encoding="utf-8")
    arguments = ("downshift", "turn", "--dir", str(folder), "--search", "examples")
    told = document(terminal, *arguments)
    assert told["moves"] is True
    in_search = told["spent"]["calls"] - sum(trial["of"] for trial in told["trials"])
    assert 0 < in_search < len(judged)
    short = document(terminal, *arguments, "--budget-calls", "60")
    assert 60 <= short["spent"]["calls"] <= 64, "answers were kept, judgements end it"
    assert short["ended"] == "the budget of 60 calls is spent"
    engines["safe"].script = lambda call: _said('{"reason": "long", "score": 0, "pass": false}')
    assert document(terminal, *arguments)["held_out"][0]["passed"] == 0


def test_answers_are_compared_by_the_embedder_in_a_search_as_in_a_test(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        return [[float(text == name) for name in (*LABELS, "neither")] for text in texts]

    monkeypatch.setattr("gateway.cli.prompts.asking.local_embedder", lambda: embed)
    path = folder / "turn" / "cases.jsonl"
    alike = '"equals", "weight": 0, "value": "L"}, {"type": "similar", "threshold": 0.9, "value": "L"}'
    lines = [
        line.replace(f'"equals", "value": "{name}"}}', alike.replace('"L"', f'"{name}"'))
        for line in path.read_text(encoding="utf-8").splitlines()
        for name in LABELS
        if f'"{name}"' in line
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert document(terminal, "optimise", "turn", "--dir", str(folder))["held_out"][0]["passed"] > 0
    engines["little"].script = _never
    again = document(terminal, "optimise", "turn", "--dir", str(folder), "--budget-calls", "200", "--seed", "3")
    assert again["held_out"][0]["passed"] > 0, "kept from before"


def test_nothing_is_written_unless_that_is_asked_for(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    before = files(folder)
    said = terminal.run("prompts", "optimise", "turn", "--dir", str(folder), "--search", "examples")
    assert said.code == 0, said.err
    assert files(folder) == before
    assert "+- role: assistant" in said.out
    assert "--write keeps it" in said.out


def test_a_written_draft_is_a_variant_that_loads_and_the_base_is_as_it_was(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    before = files(folder)
    terminal.run("prompts", "optimise", "turn", "--dir", str(folder), "--search", "examples", "--write")
    template = load(folder).prompts["turn"].template
    assert list(template.variants) == ["small"]
    assert len(template.parts("small")) >= 2 + 2 * 8
    assert {path: said for path, said in files(folder).items() if path in before} == before


def test_a_second_run_asks_nothing_that_was_answered(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    arguments = ("downshift", "turn", "--dir", str(folder), "--search", "examples")
    first = document(terminal, *arguments)
    asked = {name: len(engine.calls) for name, engine in engines.items()}
    second = document(terminal, *arguments)
    assert {name: len(engine.calls) for name, engine in engines.items()} == asked
    assert second["spent"]["calls"] == 0
    assert second["held_out"] == first["held_out"]


def test_a_gate_that_stays_shut_is_a_result_and_no_error(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path
) -> None:
    engines["little"].script = _never
    said = terminal.run("prompts", "downshift", "turn", "--dir", str(folder), "--budget-calls", "60")
    assert said.code == 0, said.err
    assert "stays shut" in said.out
    assert "It stays where it is." in said.out
    assert "no draft" in said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("optimise", "no"), "has no prompt 'no'"),
        (("optimise", "turn", "--tier", "tiny"), "no served model is of tier tiny"),
        (("optimise", "turn", "--search", "luck"), "there is no search luck"),
        (("downshift", "turn", "--tier", "large"), "is the safe tier"),
    ],
)
def test_a_wrong_wish_is_one_message(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    said = terminal.run("prompts", *arguments, "--dir", str(folder))
    assert said.code == 1
    assert told in said.err


def test_a_prompt_is_drafted_and_says_whose_each_part_is(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path, tmp_path: Path
) -> None:
    engines["safe"].script = lambda call: _said('{"instruction": "Look at the number."}')
    lines = [{"input": {"text": f"word{n}"}, "output": label(n)} for n in range(6)]
    examples = tmp_path / "examples.jsonl"
    examples.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    arguments = ("generate", "Say which way.", "--name", "way/find", "--examples", str(examples), "--dir", str(folder))
    told = document(terminal, *arguments, "--write")
    assert told["origins"]["instruction"] == "written by safe"
    template = load(folder).prompts["way/find"].template
    assert "Look at the number." in str(template.messages[0])
    assert all(name in str(template.messages[0]) for name in LABELS)
    suite = load_suite(folder / "way" / "find")
    assert len(suite.cases) == 6
    assert template.fitted == marks(suite.cases), "the model that wrote was shown them all"
    assert terminal.run("prompts", *arguments, "--write").code == 1  # a draft replaces nothing


def test_without_a_usable_answer_of_the_model_the_task_stands_there_and_that_is_said(
    terminal: Terminal, engines: Mapping[str, ScriptedEngine], folder: Path, tmp_path: Path
) -> None:
    examples = tmp_path / "examples.jsonl"
    examples.write_text('{"input": "a", "output": "b"}', encoding="utf-8")
    engines["safe"].script = _never
    told = document(terminal, "generate", "Say b.", "--name", "b", "--examples", str(examples), "--dir", str(folder))
    assert "word for word" in told["origins"]["instruction"]
    assert not (folder / "b").exists()
