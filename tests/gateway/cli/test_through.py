"""`pointsman router ladder` against a whole gateway: every way is asked once, graded, kept and compared."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from models.engine import Call, EngineRefused, EngineUnavailable
from models.scripted import Say, Script, ScriptedEngine
from router.ladder import Split, split_of
from router.outcomes import read_outcomes
from tests.fakes import unused_port
from tests.gateway.wire import OpenRig
from tests.rig import CATALOG, Rig
from tests.terminal import Said, Terminal

pytestmark = pytest.mark.anyio

PROMPTS = [
    {"id": f"{task}-{n}", "task": task, "prompt": f"Say it.\n{task} {n}?", "answer": "yes", "grade": "exact"}
    for task in ("sums", "words")
    for n in range(3)
]


def write_ladder(folder: Path, rows: list[dict[str, str]] = PROMPTS) -> Path:
    path = folder / "ladder.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


def yes(call: Call) -> Script:
    return [Say("Answer: "), Say("yes", logprob=-0.3)]


def only_words(call: Call) -> Script:
    return yes(call) if "words" in call.body["messages"][-1]["content"] else [Say("no")]


class Asker:
    """Runs the command in a thread of its own, as the gateway lives in the test's."""

    def __init__(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.terminal = terminal
        self.monkeypatch = monkeypatch
        self.out = folder / "out.json"
        self.file = write_ladder(folder)

    async def run(self, r: Rig, *options: str) -> Said:
        self.monkeypatch.setenv("POINTSMAN_KEY", r.key)
        return await self.at(r.base_url, *options)

    async def at(self, url: str, *options: str) -> Said:
        command = ("router", "ladder", str(self.file), "--json", str(self.out), "--url", url, *options)
        return await anyio.to_thread.run_sync(lambda: self.terminal.run(*command))

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out.read_text(encoding="utf-8"))
        return document

    @property
    def ways(self) -> Mapping[str, Any]:
        return {way["way"]: way for way in self.document["ways"]}

    @property
    def answers(self) -> Path:
        return self.out.with_suffix(".answers.jsonl")


@pytest.fixture
def asker(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asker:
    return Asker(terminal, monkeypatch, tmp_path)


async def test_every_way_is_asked_once_graded_and_compared(rig: OpenRig, asker: Asker) -> None:
    async with rig(small=only_words, large=yes) as r:
        said = await asker.run(r, "--watts", "36")
        asked = len(r.engines["small"].calls), len(r.engines["large"].calls)

    assert said.code == 0, said.err
    assert asked == (6, 12), "nothing is proved here, so auto is the safe tier"
    ways = asker.ways
    assert list(ways) == ["auto", "small", "large"]
    assert {name: way["right"] for name, way in ways.items()} == {"auto": 6, "small": 3, "large": 6}
    assert (ways["auto"]["bases"], ways["auto"]["answered_by"]) == ({"safe": 6}, {"large": 6})
    assert (ways["auto"]["large_share"], ways["small"]["large_share"]) == (1, 0)
    assert ways["small"]["energy_wh"] > 0
    assert asker.document["difference"]["pairs"] == 6
    assert [task["task"] for task in asker.document["tasks"]] == ["sums", "words"]
    assert "auto against always large, on 6 prompts: +0.0 points" in said.out


async def test_cost_is_what_the_ledger_has_of_these_requests(rig: OpenRig, asker: Asker) -> None:
    async with rig(small=yes, large=yes) as r:
        await asker.run(r)
        charges = await r.charges(18)

    for name, way in asker.ways.items():
        nano = sum(charge["cost_nano_usd"] for charge in charges if charge["asked"] == name)
        assert way["cost_usd"] == pytest.approx(nano / 1e9)
        assert way["cost_usd"] > 0


async def test_cost_is_unknown_where_the_ledger_is_elsewhere(
    rig: OpenRig, asker: Asker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "another"))
    async with rig(small=yes, large=yes) as r:
        said = await asker.run(r)

    assert {way["cost_usd"] for way in asker.ways.values()} == {None}
    assert "unknown" in said.out
    assert not (tmp_path / "another").exists(), "no ledger is made by looking for one"


async def test_each_answer_is_kept_with_its_build_and_what_it_says_of_itself(rig: OpenRig, asker: Asker) -> None:
    async with rig(small=yes, large=yes) as r:
        await asker.run(r)
        build = r.runtime.catalog.models["small"].build

    kept = [json.loads(line) for line in asker.answers.read_text(encoding="utf-8").splitlines()]
    one = next(answer for answer in kept if (answer["way"], answer["prompt_id"]) == ("small", "sums-0"))
    assert (one["build"], one["model"], one["basis"], one["correct"]) == (build, "small", "pinned", True)
    assert (one["finish_reason"], one["completion_tokens"]) == ("stop", 2)
    assert (one["mean_logprob"], one["min_logprob"], one["mean_margin"]) == (-0.2, -0.3, 1.0)
    assert one["seconds"] > 0
    assert one["request_id"]


async def test_goes_on_where_it_stopped_and_asks_a_cut_line_again(rig: OpenRig, asker: Asker) -> None:
    async with rig(small=yes, large=yes) as r:
        await asker.run(r)
        lines = asker.answers.read_bytes().splitlines(keepends=True)
        asker.answers.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
        for engine in r.engines.values():
            engine.calls.clear()
        said = await asker.run(r)
        again = len(r.engines["small"].calls), len(r.engines["large"].calls)

    assert again == (0, 2)
    assert (said.code, asker.ways["large"]["prompts"]) == (0, 6)


async def test_only_the_named_models_are_asked_and_the_missing_comparison_is_told(rig: OpenRig, asker: Asker) -> None:
    async with rig(small=yes, large=yes) as r:
        said = await asker.run(r, "--model", "small", "--per-task", "1")
        unknown = await asker.run(r, "--model", "nobody")

    assert {name: way["prompts"] for name, way in asker.ways.items()} == {"auto": 2, "small": 2}
    assert asker.document["difference"] is None
    assert "safe tier was not asked by name" in said.out
    assert (unknown.code, "it has: small, large" in unknown.err) == (1, True)


async def test_aliases_and_what_cannot_chat_are_no_ways(rig: OpenRig, asker: Asker) -> None:
    """The rig has an alias of auto; a row that only embeds is listed by the gateway too."""
    embedder = "  - {name: embeds, engine: scripted, tier: 0, context_tokens: 100, abilities: [embeddings]}\n"
    catalog = CATALOG.replace("aliases:", f"{embedder}aliases:\n  gpt-4o: large")
    others = {"embeds": ScriptedEngine("embeds", yes)}
    async with rig(small=yes, large=yes, catalog=catalog, others=others) as r:
        said = await asker.run(r, "--per-task", "1")

    assert said.code == 0, said.err
    assert list(asker.ways) == ["auto", "small", "large"]


async def test_log_probabilities_are_asked_of_whom_has_them_and_never_narrow_auto(rig: OpenRig, asker: Asker) -> None:
    catalog = CATALOG.replace("tier: 1", "tier: 1\n    abilities: [chat]")
    async with rig(small=yes, large=yes, catalog=catalog) as r:
        said = await asker.run(r, "--per-task", "1")
        asked = {name: [call.body.get("logprobs") for call in e.calls] for name, e in r.engines.items()}

    assert said.code == 0, said.err
    assert asker.ways["auto"]["answered_by"] == {"large": 2}
    assert asked == {"small": [True, True], "large": [None] * 4}


async def test_a_prompt_that_is_refused_counts_as_not_right(rig: OpenRig, asker: Asker) -> None:
    def refusing(call: Call) -> Script:
        too_long = "sums 1" in call.body["messages"][-1]["content"]
        return [EngineRefused("it is too long", status=400)] if too_long else yes(call)

    async with rig(small=refusing, large=yes) as r:
        said = await asker.run(r)

    assert said.code == 0, said.err
    small = asker.ways["small"]
    assert (small["prompts"], small["right"], small["refused"]) == (6, 5, 1)
    assert "small: 1 prompts were refused" in said.out


async def test_a_broken_engine_is_told_and_what_was_answered_stays(
    rig: OpenRig, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.through.LONGEST_PAUSE_SECONDS", 0.0)

    def broken(call: Call) -> Script:
        return [EngineUnavailable("it broke")]

    async with rig(small=broken, large=yes) as r:
        said = await asker.run(r)

    assert said.code == 1
    assert "for small" in said.err
    assert "goes on where it stopped" in said.err
    assert len(asker.answers.read_text(encoding="utf-8").splitlines()) == 6, "those of auto"


async def test_prompts_that_the_router_has_learned_from_are_left_out(
    rig: OpenRig, asker: Asker, tmp_path: Path
) -> None:
    known = next(o.prompt_id for o in read_outcomes() if split_of(o.prompt_id) is not Split.TEST)
    kept_back = next(o.prompt_id for o in read_outcomes() if split_of(o.prompt_id) is Split.TEST)
    rows = [{**PROMPTS[0], "id": known}, {**PROMPTS[1], "id": kept_back}, PROMPTS[2]]
    asker.file = write_ladder(tmp_path, rows)
    async with rig(small=yes, large=yes) as r:
        said = await asker.run(r)
        assert (asker.ways["auto"]["prompts"], asker.document["left_out"]) == (2, 1)
        assert "1 prompts that the router has learned from were left out" in said.out
        await asker.run(r, "--all")
        assert asker.ways["auto"]["prompts"] == 3


async def test_what_is_missing_is_told_with_its_remedy(
    rig: OpenRig, asker: Asker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with rig(small=yes, large=yes) as r:
        monkeypatch.delenv("POINTSMAN_KEY", raising=False)
        for key, told in ((None, "wants a key"), ("pm-wrong", "does not know this key")):
            if key:
                monkeypatch.setenv("OTHER", key)
            said = await asker.at(r.base_url, "--key-env", "OTHER")
            assert (said.code, told in said.err, "pointsman keys create" in said.err) == (1, True, True), said.err
    nobody = await asker.at(f"http://127.0.0.1:{unused_port()}")
    assert (nobody.code, "pointsman serve" in nobody.err, "--url" in nobody.err) == (1, True, True)
    odd = await asker.at("localhost")
    assert (odd.code, "http://host:port" in odd.err) == (1, True)
    asker.out = tmp_path / "nowhere" / "out.json"
    assert "make it first" in (await asker.at("http://127.0.0.1:1")).err


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"{}\n", mtime=0), None])
async def test_a_file_that_is_no_ladder_is_told(asker: Asker, content: bytes | None) -> None:
    if content is None:
        asker.file.unlink()
    else:
        asker.file.write_bytes(content)
    said = await asker.at("http://127.0.0.1:1")
    assert (said.code, "gzipped JSON lines" in said.err) == (1, True)
