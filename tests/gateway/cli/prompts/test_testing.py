"""`pointsman prompts test`: what is asked, counted, shown, kept and gone by."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import pytest

from gateway.cli.prompts.answers import MOST_ANSWERS, kept_answers
from gateway.cli.prompts.measured import BEGIN, END
from models.engine import Call, EngineUnavailable
from models.scripted import Say, Script
from prompts.answer import Answer
from prompts.receipt import Receipt
from tests.gateway.cli.prompts.world import CASES, World, right, wrong_on
from tests.gateway.wire import OpenRig


def receipts(folder: Path) -> list[Receipt]:
    found = (folder / "data" / "prompts" / "receipts").glob("*.json")
    return [Receipt.read(json.loads(path.read_bytes())) for path in found]


def test_each_tier_is_asked_its_own_text_and_its_figures_fit_80_columns(world: World, tmp_path: Path) -> None:
    said = world.run("test", "sort", "--json", "out.json")
    assert world.asked == {"small": CASES, "large": CASES}
    texts = {engine.model: engine.calls[0].body["messages"] for engine in world.engines}
    assert [message["role"] for message in texts["small"]] == ["user"]
    assert [message["role"] for message in texts["large"]] == ["system", "user"]
    assert re.search(r"all +20/20 +84% to 100% +0\.86 +0\.8 +yes", said), said
    assert re.search(r"tag hard +5/5 .* yes", said), said
    assert max(len(line.rstrip()) for line in said.splitlines() if "receipts" not in line) <= 80
    document = json.loads((tmp_path / "out.json").read_bytes())
    assert document["holds"] is True
    assert [run["tier"] for run in document["runs"]] == ["small", "large"]
    assert {receipt.tier for receipt in receipts(tmp_path)} == {"small", "large"}


def test_a_bar_that_does_not_hold_is_told_with_the_failing_cases_and_exit_status_1(world: World) -> None:
    world.plays["small"] = wrong_on(1, 2, 3, 4, 5)
    said = world.run("test", "sort", "--failures", "2", code=1)
    assert re.search(r"all +15/20 .* 0\.8 +no", said), said
    assert "failed c1 [easy]" in said
    assert "answered: b" in said
    assert "equals: is not 'a'" in said
    assert "3 more failed; --failures 5 shows them" in said
    assert "failed c3" not in said


def test_only_the_named_tiers_are_started_and_an_unknown_one_is_told(world: World) -> None:
    world.run("test", "sort", "--tiers", "small")
    assert world.asked == {"small": CASES, "large": 0}
    assert "there are: small, large" in world.run("test", "sort", "--tiers", "medium", code=1)


def test_what_was_answered_is_not_asked_again_until_something_changes(world: World, tmp_path: Path) -> None:
    world.run("test", "sort", "--tiers", "large")
    assert "20 of them kept from before" in " ".join(world.run("test", "sort", "--tiers", "large").split())
    assert world.asked["large"] == CASES
    assert len(receipts(tmp_path)) == 1, "a run without a new answer is no other run"
    assert "runs" not in world.run("test", "sort", "--tiers", "large")
    tests = world.prompts / "sort/tests.yaml"
    tests.write_text(tests.read_text().replace("x3 a", "y3 a"))
    world.run("test", "sort", "--tiers", "large")
    assert world.asked["large"] == CASES + 1
    world.run("test", "sort", "--tiers", "large", "--again")
    assert world.asked["large"] == 2 * CASES + 1


def test_an_engine_that_fails_is_a_failure_and_is_asked_again_the_next_time(world: World, tmp_path: Path) -> None:
    def failing(call: Call) -> Script:
        return [EngineUnavailable("it broke")] if "x7 a" in call.body["messages"][-1]["content"] else [Say("a")]

    world.plays["large"] = failing
    said = world.run("test", "sort", "--tiers", "large", code=1)
    assert "error: it broke" in said
    world.plays["large"] = right
    world.run("test", "sort", "--tiers", "large")
    assert world.asked["large"] == CASES + 1
    assert sorted(receipt.count.passed for receipt in receipts(tmp_path)) == [CASES - 1, CASES]


def test_a_judge_is_the_safe_tiers_model_and_is_started_for_it(world: World, tmp_path: Path) -> None:
    def judging(call: Call) -> Script:
        is_judge = "You grade" in call.body["messages"][0]["content"]
        return [Say('{"reason": "kind", "score": 1, "pass": true}' if is_judge else "a")]

    world.plays["large"] = judging
    rubric = "tests:\n  - {vars: {text: x}, assert: [{type: llm-rubric, value: is kind}]}\n"
    (world.prompts / "sort/tests.yaml").write_text(f"gate: {{default: 0.04}}\n{rubric}")
    world.run("test", "sort", "--tiers", "small")
    assert world.asked == {"small": 1, "large": 1}
    world.run("test", "sort", "--tiers", "large", "--again")
    assert len([engine for engine in world.engines if engine.model == "large"]) == 2, "one engine asks and judges"
    [one, other] = receipts(tmp_path)
    assert one.binding.judge == other.binding.judge != ""


def test_a_margin_is_held_against_the_safe_tiers_earlier_receipt(world: World) -> None:
    tests = world.prompts / "sort/tests.yaml"
    tests.write_text(tests.read_text().replace("default: 0.8", "default: safe-0.3"))
    said = " ".join(world.run("test", "sort", "--tiers", "small", code=1).split())
    assert "the safe tier has no valid receipt of these cases" in said
    world.run("test", "sort", "--tiers", "large")
    world.run("test", "sort", "--tiers", "small")


def test_one_case_leaves_no_receipt(world: World, tmp_path: Path) -> None:
    world.plays["large"] = wrong_on(3)
    said = world.run("test", "sort", "--case", "c3", "--tiers", "large", code=1)
    assert "0/1" in said
    assert world.asked["large"] == 1
    assert receipts(tmp_path) == []


def test_the_table_stands_between_its_lines_and_the_rest_stays(world: World, tmp_path: Path) -> None:
    world.plays["small"] = wrong_on(*range(CASES))
    (tmp_path / "README.md").write_text("before\n")
    assert BEGIN in world.run("test", "--all", "--table", "README.md", code=1)
    assert not world.engines, "told before the work"
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    world.run("test", "--all", "--table", "README.md")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "stale" not in text
    assert re.search(r"\| `sort` \| small \| 0/20 \| 0% to 16% \| 0\.00 \| 0\.8 \| no: all, tag hard \|", text), text
    assert re.search(r"\| `sort` \| large \| 20/20 \| .* \| yes \|", text), text
    before = text
    world.run("test", "--all", "--table", "README.md")
    assert (tmp_path / "README.md").read_text() == before, "the same command writes the same"


def test_what_was_not_asked_for_rightly_is_told(world: World) -> None:
    assert "name one prompt, or write --all" in world.run("test", code=1)
    assert "name one prompt, or write --all" in world.run("test", "sort", "--all", code=1)
    assert "make it first" in world.run("test", "sort", "--json", "nowhere/out.json", code=1)
    (world.prompts / "sort/tests.yaml").unlink()
    assert "has no tests" in world.run("test", "sort", code=1)
    assert "no prompt in prompts has tests" in world.run("test", "--all", code=1)


@pytest.mark.anyio
async def test_a_running_gateway_is_asked_by_the_models_names(
    world: World, rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(small=right, large=right) as r:
        monkeypatch.setenv("POINTSMAN_KEY", r.key)
        said = await run_there(lambda: world.run("test", "sort", "--url", r.base_url))
        asked = {name: len(engine.calls) for name, engine in r.engines.items()}
        charges = await r.charges(2 * CASES)
        wrong = await run_there(lambda: world.run("test", "sort", "--url", r.base_url, "--key", "pm-no", code=1))
    assert asked == {"small": CASES, "large": CASES}
    assert {charge["basis"] for charge in charges} == {"pinned"}
    assert len(re.findall("^all +20/20", said, re.MULTILINE)) == 2
    assert "does not know this key" in wrong
    assert not world.engines


async def run_there(command: Callable[[], str]) -> str:
    """In a thread of its own, as the gateway lives in the test's."""
    return await anyio.to_thread.run_sync(command)


def test_answers_that_cannot_be_kept_are_told_before_the_work(world: World, tmp_path: Path) -> None:
    path = tmp_path / "data" / "prompts" / "answers.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    said = " ".join(world.run("test", "sort", code=1).split())
    assert "answers cannot be kept there" in said
    assert "remove the file" in said
    assert not world.engines


def test_kept_answers_are_bounded_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ANSWERS > 0
    monkeypatch.setattr("gateway.cli.prompts.answers.MOST_ANSWERS", 3)
    path = tmp_path / "answers.db"
    with kept_answers(path) as kept:
        for number in range(9):
            kept[str(number)] = Answer(str(number), prompt_tokens=number)
    with kept_answers(path) as kept:
        assert [kept.get(str(number)) is not None for number in range(9)] == [False] * 6 + [True] * 3
        assert kept.get("8") == Answer("8", prompt_tokens=8)


def test_results_are_told_apart_by_the_variables_that_the_prompt_names_and_not_gated(
    world: World, tmp_path: Path
) -> None:
    prompt, tests = world.prompts / "sort/sort.prompt.yaml", world.prompts / "sort/tests.yaml"
    said = prompt.read_text().replace("    text:", "    kind: {type: string, default: '[plain]'}\n    text:")
    prompt.write_text(f"{said}routing: {{stratify_by: [kind]}}\n".replace("{{ text }}", "{{ kind }} {{ text }}"))
    small = world.prompts / "sort/sort.small.prompt.yaml"
    small.write_text(small.read_text().replace("{{ text }}", "{{ kind }} {{ text }}"))
    tests.write_text(tests.read_text().replace("vars: {text: 'x3 a'}", "vars: {text: 'x3 a', kind: odd}"))
    world.plays["small"] = wrong_on(3)
    shown = world.run("test", "sort", "--tiers", "small", "--json", "out.json", code=1)
    assert re.search(r"kind=\[plain\] +19/19", shown), shown
    assert re.search(r"kind=odd +0/1", shown), shown
    [run] = json.loads((tmp_path / "out.json").read_bytes())["runs"]
    assert {row["metric"]: row["bar"] for row in run["rows"]}["kind=odd"] is None
