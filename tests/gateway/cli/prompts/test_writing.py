"""Commands that need no model: to begin, to look, to take over. Each mistake is told by file, line and remedy."""

import json
from pathlib import Path

import pytest

from tests.gateway.cli.prompts.world import PROMPT, World


def test_a_new_folder_and_a_new_prompt_pass_lint_without_a_word(world: World) -> None:
    world.run("init", "own")
    world.run("new", "shop/reply", "--dir", "own")
    assert "2 prompts: 0 errors, 0 warnings and notes" in world.run("lint", "own")
    assert "6 cases" in world.run("test", "support/triage", "--dir", "own", "--mock")
    assert "shop/reply" in world.run("list", "--dir", "own")


def test_nothing_is_written_over(world: World) -> None:
    before = (world.prompts / "sort/sort.prompt.yaml").read_text()
    assert "is there already" in world.run("new", "sort", code=1)
    assert "is there already" in world.run("init", "prompts", code=1)
    assert "is no name of a prompt" in world.run("new", "../x", code=1)
    assert (world.prompts / "sort/sort.prompt.yaml").read_text() == before


def test_where_the_prompts_are_not_is_told_with_the_way_to_some(world: World, tmp_path: Path) -> None:
    (world.prompts / "library.yaml").rename(tmp_path / "elsewhere.yaml")
    assert "pointsman prompts init" in world.run("list", code=1)
    assert "pointsman prompts init nowhere" in world.run("lint", "nowhere", code=1)
    (world.prompts / "library.yaml").write_text("source: files\n")
    assert "did you mean sort?" in world.run("render", "srot", code=1)


def test_lint_says_file_line_and_remedy_and_fails_on_errors_alone(world: World) -> None:
    assert "0 errors" in world.run("lint")
    path = world.prompts / "sort/sort.prompt.yaml"
    path.write_text(PROMPT.replace("description: Sort it\n", ""))
    said = " ".join(world.run("lint").split())
    assert "warning prompts/sort/sort.prompt.yaml" in said
    assert "say in a line what it is for" in said
    path.write_text(PROMPT.replace("{{ text }}", "{{ txet }}"))
    said = " ".join(world.run("lint", code=1).split())
    assert "error prompts/sort/sort.prompt.yaml:11:" in said
    assert "did you mean text" in said


def test_lint_reads_the_suite_too_and_prints_json(world: World) -> None:
    tests = world.prompts / "sort/tests.yaml"
    tests.write_text(tests.read_text().replace("type: equals", "type: equalz", 1))
    document = json.loads(world.run("lint", "--json", code=1))
    [finding] = [one for one in document["findings"] if one["severity"] == "error"]
    assert (finding["path"], finding["line"], finding["prompt"]) == ("prompts/sort/tests.yaml", 3, "sort")
    assert "did you mean equals" in finding["says"]
    assert {one["variant"] for one in document["prefixes"]} == {"base", "small"}


def test_lint_counts_in_the_models_own_tokens_where_it_may_start_them(world: World) -> None:
    document = json.loads(world.run("lint", "--json", "--tokens"))
    by_variant = {one["variant"]: one["tokens"] for one in document["prefixes"]}
    assert by_variant == {"base": {"large": 4}, "small": {"small": 3}}, "words, to a scripted engine"


def test_render_shows_what_the_tier_is_told_and_checks_variables_as_the_gateway_does(world: World) -> None:
    said = world.run("render", "sort", "--var", "text=[/bold] it", "--tier", "small")
    assert "a or b? [/bold] it" in said
    assert "did you mean text" in world.run("render", "sort", "--var", "txt=x", code=1)
    assert "write name=value" in world.run("render", "sort", "--var", "text", code=1)
    assert "x3 a" in world.run("render", "sort", "--case", "c3")
    assert "there is no case nine" in world.run("render", "sort", "--case", "nine", code=1)


def test_variables_come_from_files_too(world: World, tmp_path: Path) -> None:
    (tmp_path / "vars.yaml").write_text("text: from a file\n")
    (tmp_path / "long.txt").write_text("a long text")
    assert "from a file" in world.run("render", "sort", "--vars", "vars.yaml")
    body = json.loads(world.run("render", "sort", "--vars", "vars.yaml", "--var", "text=@long.txt", "--json"))
    assert body["messages"][-1]["content"] == "a long text"
    assert body["temperature"] == 0
    (tmp_path / "vars.yaml").write_text("- x\n")
    assert "write name: value" in world.run("render", "sort", "--vars", "vars.yaml", code=1)


def test_mock_renders_every_case_for_every_text_and_asks_nobody(world: World) -> None:
    assert "20 cases, 20 assertions, rendered for base, small" in world.run("test", "--all", "--mock")
    tests = world.prompts / "sort/tests.yaml"
    tests.write_text(tests.read_text().replace("x7 a", "x" * 61))
    said = " ".join(world.run("test", "sort", "--mock", code=1).split())
    assert "case c7" in said
    assert "60 is the most" in said
    assert not world.engines


def test_another_tools_prompt_is_taken_over_and_what_is_not_is_told(world: World, tmp_path: Path) -> None:
    source = {"id": "pmpt_1", "version": "2", "messages": [{"role": "user", "content": "Hello {{name}}"}]}
    (tmp_path / "prompt.json").write_text(json.dumps(source))
    said = world.run("import", "openai", "prompt.json")
    assert "not carried version 2" in said
    assert "Hello Ann" in world.run("render", "pmpt_1", "--var", "name=Ann")
    assert "is there already" in world.run("import", "openai", "prompt.json", code=1)
    world.run("import", "openai", "prompt.json", "--name", "greet/hello")
    assert "Hello Bo" in world.run("render", "greet/hello", "--var", "name=Bo")
    assert "there are: openai" in world.run("import", "openia", "prompt.json", code=1)
    (tmp_path / "prompt.json").write_text("{")
    assert "prompt.json: is not JSON" in world.run("import", "openai", "prompt.json", code=1)


@pytest.mark.parametrize("name", ["promptfoo", "github"])
def test_what_was_written_for_another_tool_can_be_taken_over_again(world: World, name: str) -> None:
    world.run("export", "sort", "--format", name, "--output", "out.yaml")
    world.run("import", name, "out.yaml", "--name", "again")
    assert "20 cases" in world.run("test", "again", "--mock")
    assert "there are: github" in world.run("export", "sort", "--format", "x", code=1)
