"""How fast an engine answers, one at a time and eight at a time, and what it takes meanwhile."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from gateway.cli.compress.resources import counter_joules, cpu_seconds, family, memory_bytes
from models.engine import Call, Engine

ANSWER_TOKENS = 48
ALONE, TOGETHER = 3, 8  # answers one after the other, and at the same time
PROMPT_WORDS = 80
SHARED_WORDS = 300  # with which prompts begin alike, as those of one template do
SECONDS_PER_HOUR = 3600
ENERGY_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer. `tokens`: of the answer."""

    first_seconds: float
    seconds: float
    prompt_tokens: int
    tokens: int


async def speed(engine: Engine, text: str, watts: float) -> Mapping[str, float | None]:
    """*text*: words to go on from, other ones for each answer, so that no cache of prompts helps; but for the figure
    of prompts that begin alike.
    """
    words = text.split()
    prompts = [" ".join(words[place * 7 : place * 7 + PROMPT_WORDS]) for place in range(ALONE + TOGETHER + 1)]
    await _timed(engine, prompts[0])  # warms up what is made with the first answer
    process_id = getattr(engine, "process_id", None)
    processes = family(process_id) if process_id else set()
    before, joules = cpu_seconds(processes), counter_joules()
    alone = [await _timed(engine, prompt) for prompt in prompts[1 : ALONE + 1]]
    began = perf_counter()
    together = await asyncio.gather(*(_timed(engine, prompt) for prompt in prompts[ALONE + 1 :]))
    seconds = perf_counter() - began
    after, spent = cpu_seconds(processes), counter_joules()
    alike = [await _timed(engine, " ".join([*words[:SHARED_WORDS], *words[-place:]])) for place in range(1, ALONE + 2)]
    took = None if before is None or after is None else after - before
    tokens = sum(one.tokens for one in [*alone, *together])
    used = spent - joules if joules is not None and spent is not None else None if took is None else took * watts
    return {
        "first_token_seconds": median(one.first_seconds for one in alone),
        "first_token_alike_seconds": median(one.first_seconds for one in alike[1:]),
        "prompt_tokens_per_second": median(one.prompt_tokens / one.first_seconds for one in alone),
        "tokens_per_second_1": median(_rate(one) for one in alone),
        "tokens_per_second_8": sum(one.tokens for one in together) / seconds,
        "memory_bytes": memory_bytes(processes),
        "cpu_seconds_per_1000_tokens": None if took is None else took / tokens * ENERGY_TOKENS,
        "watt_hours_per_1000_tokens": None if used is None else used / SECONDS_PER_HOUR / tokens * ENERGY_TOKENS,
        "energy_is_measured": float(joules is not None),
    }


def _rate(one: Timed) -> float:
    return max(one.tokens - 1, 0) / max(one.seconds - one.first_seconds, 1e-9)


async def _timed(engine: Engine, prompt: str) -> Timed:
    messages: Sequence[Mapping[str, str]] = [{"role": "user", "content": f"Go on with this text:\n{prompt}"}]
    body = {"messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0, "stream": True}
    began = perf_counter()
    reply = await engine.begin(Call(body, stream=True, include_usage=True))
    try:
        first = perf_counter() - began
        while await reply.more():
            pass
        usage = reply.usage
        assert usage is not None
        return Timed(first, perf_counter() - began, usage.prompt_tokens, usage.completion_tokens)
    finally:
        await reply.close()
