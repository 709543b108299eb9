"""Runs one model over ladder prompts and keeps what came back, resumably. Offline; knows engines by their protocol."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from models.engine import Call, Engine
from prompts.grade import grader, said
from prompts.message import template_key
from router.kept import appending, read_kept, work_off
from router.ladder import LadderPrompt
from router.outcomes import FIRST_TOKENS, Outcome
from router.signals import TOP_LOGPROBS, signals_of

ANSWER_LIMIT_TOKENS = 256
LOGPROB_DIGITS = 5  # decimals
SECONDS_DIGITS = 3  # decimals
SAID_HEX_DIGITS = 8  # two answers to one prompt that differ look the same once in four thousand million


@dataclass(frozen=True, slots=True)
class Answered(Outcome):
    """One prompt answered by one model build, with the answer's text."""

    text: str = ""


def read_answers(path: Path) -> list[Answered]:
    """What has been collected so far; a last line that was cut by a crash is left out, so it is run again."""
    return read_kept(path, Answered)


async def collect(
    engine: Engine,
    prompts: Iterable[LadderPrompt],
    path: Path,
    *,
    model: str,
    build: str,
    concurrency: int,
    on_answer: Callable[[Answered], None],
) -> None:
    """Append an answer to *path* for each of *prompts* that has none of this build. Raises EngineError."""
    done = {a.prompt_id for a in read_answers(path) if a.build == build}
    with appending(path) as append:

        async def ask(prompt: LadderPrompt) -> None:
            answered = await _answer(engine, prompt, model=model, build=build)
            append(answered)
            on_answer(answered)

        await work_off([p for p in prompts if p.id not in done], ask, concurrency)


async def _answer(engine: Engine, prompt: LadderPrompt, *, model: str, build: str) -> Answered:
    body = {
        "messages": list(prompt.messages),
        "max_tokens": ANSWER_LIMIT_TOKENS,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }
    reply = await engine.begin(Call(body))
    usage, seconds = reply.usage, reply.engine_seconds
    await reply.close()
    assert usage is not None
    choice = orjson.loads(reply.first)["choices"][0]
    text = choice["message"]["content"] or ""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    signals = signals_of(tokens, text, choice["finish_reason"])
    first = signals_of(tokens[:FIRST_TOKENS], text, None)
    return Answered(
        prompt_id=prompt.id,
        task=prompt.task,
        template=template_key(body) or "",
        model=model,
        build=build,
        correct=grader(prompt.grade)(text, prompt.expected),
        finish_reason=choice["finish_reason"],
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        text=text,
        mean_logprob=rounded_logprob(signals.mean_logprob),
        min_logprob=rounded_logprob(signals.min_logprob),
        mean_margin=rounded_logprob(signals.mean_margin),
        first_mean_logprob=rounded_logprob(first.mean_logprob),
        first_min_logprob=rounded_logprob(first.min_logprob),
        first_mean_margin=rounded_logprob(first.mean_margin),
        said=said_digest(prompt.grade, text),
        seconds=None if seconds is None else round(seconds, SECONDS_DIGITS),
    )


def said_digest(grade: str, text: str) -> str:
    """The same for two answers that say the same to the grader called *grade*; empty where it finds nothing."""
    found = said(grade, text)
    return hashlib.sha256(found.encode()).hexdigest()[:SAID_HEX_DIGITS] if found else ""


def rounded_logprob(value: float | None) -> float | None:
    return None if value is None else round(value, LOGPROB_DIGITS)
