"""Collecting can be stopped at any moment and goes on where it stopped."""

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from models.documents import Document, DocumentsReply
from models.engine import Call, Engine, EngineError, EngineUnavailable, Health, Reply, Usage
from models.scripted import Say, Script, ScriptedEngine, Wait
from prompts.message import template_key
from router.collect import ANSWER_LIMIT_TOKENS, Answered, collect, read_answers
from router.ladder import LadderPrompt
from tests.router.world import SMALL

pytestmark = pytest.mark.anyio


def _prompt(name: str, expected: str = "yes") -> LadderPrompt:
    messages = ({"role": "system", "content": "Task: agree."}, {"role": "user", "content": f"{name}?"})
    return LadderPrompt(name, "agree", messages, expected, "exact")


PROMPTS = [_prompt(f"p{n}") for n in range(6)]


def _echo(call: Call) -> Script:
    return [Say("Answer: "), Say("yes")]


def _question(call: Call) -> str:
    return str(call.body["messages"][-1]["content"]).rstrip("?")


async def _collect(
    engine: Engine,
    path: Path,
    prompts: Sequence[LadderPrompt] = PROMPTS,
    *,
    build: str = "build",
    concurrency: int = 2,
    on_answer: Callable[[Answered], None] = lambda answered: None,
) -> None:
    await collect(engine, prompts, path, model="small", build=build, concurrency=concurrency, on_answer=on_answer)


@dataclass
class FakeEngine:
    """Answers 'yes' with the given log-probabilities, each prompt only once *together* of them are being asked."""

    tokens: Any = None
    together: int = 1
    text: str | None = "yes"
    asked: int = 0
    open: int = 0
    most_open: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def health(self) -> Health:
        raise NotImplementedError

    async def begin(self, call: Call) -> Reply:
        assert not call.stream
        return await DocumentsReply.begin(self._answer(), call)

    async def _answer(self) -> AsyncGenerator[Document, None]:
        self.asked += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.asked >= self.together:
            self.enough.set()
        await self.enough.wait()
        await asyncio.sleep(0)
        self.open -= 1
        choice = {"message": {"content": self.text}, "finish_reason": "length", "logprobs": self.tokens}
        yield Document({"choices": [choice]}, Usage(12, 3))


async def test_every_prompt_is_asked_graded_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "answers.jsonl"
    engine = ScriptedEngine("small", _echo)
    told: list[Answered] = []
    prompts = [*PROMPTS, _prompt("hard", expected="no")]

    await _collect(engine, path, prompts, on_answer=told.append)

    kept = {a.prompt_id: a for a in read_answers(path)}
    assert [a.prompt_id for a in told] == [p.id for p in prompts]
    assert kept == {a.prompt_id: a for a in told}
    assert {a.prompt_id for a in told if not a.correct} == {"hard"}
    assert kept["p0"] == Answered(
        prompt_id="p0",
        task="agree",
        template=template_key({"messages": list(PROMPTS[0].messages)}) or "",
        model="small",
        build="build",
        correct=True,
        finish_reason="stop",
        prompt_tokens=3,
        completion_tokens=2,
        mean_logprob=-0.1,
        min_logprob=-0.1,
        mean_margin=1.0,
        first_mean_logprob=-0.1,
        first_min_logprob=-0.1,
        first_mean_margin=1.0,
        said=hashlib.sha256(b"yes").hexdigest()[:8],
        seconds=0.002,
        text="Answer: yes",
    )


async def test_models_are_asked_without_chance_and_with_log_probabilities(tmp_path: Path) -> None:
    engine = ScriptedEngine("small", _echo)
    await _collect(engine, tmp_path / "answers.jsonl", PROMPTS[:1])

    assert engine.calls == [
        Call(
            {
                "messages": list(PROMPTS[0].messages),
                "max_tokens": ANSWER_LIMIT_TOKENS,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": 2,
            },
            stream=False,
        )
    ]


async def test_the_template_is_the_one_that_a_request_without_our_settings_has(tmp_path: Path) -> None:
    """Evidence is only of use when the application's own requests have the same template."""
    await _collect(ScriptedEngine("small", _echo), tmp_path / "answers.jsonl")

    as_an_application_asks = {"messages": list(PROMPTS[0].messages), "model": "auto", "stream": True}
    assert {a.template for a in read_answers(tmp_path / "answers.jsonl")} == {template_key(as_an_application_asks)}


async def test_goes_on_without_asking_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    await _collect(ScriptedEngine("small", _echo), path, PROMPTS[:4])
    before = path.read_bytes()
    engine = ScriptedEngine("small", _echo)

    await _collect(engine, path, PROMPTS)
    await _collect(engine, path, PROMPTS)

    assert [_question(call) for call in engine.calls] == ["p4", "p5"]
    assert path.read_bytes().startswith(before)
    assert [a.prompt_id for a in read_answers(path)] == [p.id for p in PROMPTS]


async def test_another_build_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    for build in ("one", "other"):
        await _collect(ScriptedEngine("small", _echo), path, build=build)

    asked = [(p.id, build) for build in ("one", "other") for p in PROMPTS]
    assert [(a.prompt_id, a.build) for a in read_answers(path)] == asked


def _odd(call: Call) -> Script:
    return [Say('é\u2028yes\u0085\n\r\x0b\x1c"\\ \U0001f600')]


async def test_a_line_cut_anywhere_is_asked_again_and_harms_no_other(tmp_path: Path) -> None:
    """Also within a character: the answers hold some of several bytes."""
    path = tmp_path / "answers.jsonl"
    await _collect(ScriptedEngine("small", _odd), path, PROMPTS[:2])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert [a.prompt_id for a in read_answers(path)] == ["p0"]

    for end in (first + 1, first + 40, whole.rindex("\U0001f600".encode()) + 2):
        path.write_bytes(whole[:end])
        engine = ScriptedEngine("small", _odd)
        await _collect(engine, path, PROMPTS[:3])
        assert [_question(call) for call in engine.calls] == ["p1", "p2"]
        assert [a.prompt_id for a in read_answers(path)] == ["p0", "p1", "p2"]


async def test_an_answer_that_lost_only_its_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    await _collect(ScriptedEngine("small", _echo), path, PROMPTS[:2])
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    engine = ScriptedEngine("small", _echo)

    await _collect(engine, path, PROMPTS[:3])

    assert len(engine.calls) == 1
    assert [a.prompt_id for a in read_answers(path)] == ["p0", "p1", "p2"]


async def test_any_character_of_an_answer_is_kept(tmp_path: Path) -> None:
    """Some of them end a line for Python, though not in JSON lines."""
    await _collect(ScriptedEngine("small", _odd), tmp_path / "answers.jsonl", PROMPTS[:1])

    (answered,) = read_answers(tmp_path / "answers.jsonl")
    assert answered.text == 'é\u2028yes\u0085\n\r\x0b\x1c"\\ \U0001f600'


async def test_an_engine_error_is_raised_and_leaves_what_was_done(tmp_path: Path) -> None:
    def failing(call: Call) -> Script:
        return [EngineUnavailable("it broke")] if _question(call) == "p3" else _echo(call)

    path = tmp_path / "answers.jsonl"
    with pytest.raises(EngineError, match="it broke"):
        await _collect(ScriptedEngine("small", failing), path, concurrency=1)
    assert [a.prompt_id for a in read_answers(path)] == ["p0", "p1", "p2"]

    engine = ScriptedEngine("small", _echo)
    await _collect(engine, path)
    assert [_question(call) for call in engine.calls] == ["p3", "p4", "p5"]


async def test_an_engine_error_stops_the_other_calls(tmp_path: Path) -> None:
    def script(call: Call) -> Script:
        return [EngineUnavailable("it broke")] if _question(call) == "p1" else [Wait()]

    engine = ScriptedEngine("small", script)
    with pytest.raises(EngineError):
        await _collect(engine, tmp_path / "answers.jsonl", concurrency=2)

    assert (len(engine.calls), engine.abandoned) == (2, 1)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_asks_so_many_at_the_same_time_and_no_more(tmp_path: Path, concurrency: int) -> None:
    engine = FakeEngine(together=concurrency)

    await _collect(engine, tmp_path / "answers.jsonl", concurrency=concurrency)

    assert engine.asked == len(PROMPTS)
    assert engine.most_open == concurrency


def _token(best: float, *others: float) -> dict[str, Any]:
    return {"logprob": best, "top_logprobs": [{"logprob": value} for value in (best, *others)]}


async def test_signals_are_read_off_the_tokens(tmp_path: Path) -> None:
    tokens = [_token(-0.5, -2.5), _token(-0.25, -1.25), _token(-1.5)]  # the last knows of no second-best
    await _collect(FakeEngine({"content": tokens}), tmp_path / "answers.jsonl", PROMPTS[:1])

    (answered,) = read_answers(tmp_path / "answers.jsonl")
    assert answered.mean_logprob == -0.75
    assert answered.min_logprob == -1.5
    assert answered.mean_margin == 1.5  # (2 + 1) / 2
    assert (answered.finish_reason, answered.prompt_tokens, answered.completion_tokens) == ("length", 12, 3)


@pytest.mark.parametrize("tokens", [None, {}, {"content": None}, {"content": []}])
async def test_without_tokens_there_are_no_signals(tmp_path: Path, tokens: Any) -> None:
    await _collect(FakeEngine(tokens, text=None), tmp_path / "answers.jsonl", PROMPTS[:1])

    (answered,) = read_answers(tmp_path / "answers.jsonl")
    assert (answered.mean_logprob, answered.min_logprob, answered.mean_margin) == (None, None, None)
    assert (answered.text, answered.correct) == ("", False)


def test_nothing_was_collected_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_answers(tmp_path / "answers.jsonl") == []


def test_reads_files_of_either_spelling_of_json(tmp_path: Path) -> None:
    answered = Answered(
        "p", "t", "k", SMALL.name, SMALL.build, True, "stop", 1, 1, -math.inf, None, 0.5, text="é\u2028"
    )
    path = tmp_path / "answers.jsonl"
    lines = [json.dumps(asdict(answered), ensure_ascii=ascii_only) for ascii_only in (True, False)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert read_answers(path) == [answered] * 2
