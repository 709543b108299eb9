"""Models of the catalogue as a suite asks them: started, asked, stopped; what an answer took is told with it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import orjson

from gateway.builder import make_engines, model_store
from gateway.cli.models import fetch
from gateway.settings import Settings
from models.catalog import Catalog, Model
from models.engine import Call, Engine, EngineError, EngineState
from prompts.answer import Answer, ToolCall
from prompts.examination import Ask
from prompts.library import tier_of
from prompts.message import Message

CONTEXT_TOKENS = 4096  # a prompt with its examples and a short answer
PARALLEL = 2
READY_TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.1


class PromptsFailed(Exception):
    """A command about prompts cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model of the catalogue that is ready, and the way to ask it."""

    model: Model
    tier: str
    ask: Ask


def models_of(catalog: Catalog, tiers: Sequence[str], wanted: Sequence[str]) -> dict[str, Model]:
    """The model of each tier in *wanted*, the largest where a tier has several; *tiers* are the library's names.

    Raises PromptsFailed.
    """
    chatting = catalog.chatting
    by_tier = {tier_of(place, len(chatting), tuple(tiers)): model for place, model in enumerate(chatting)}
    if missing := [tier for tier in wanted if tier not in by_tier]:
        raise PromptsFailed(f"no served model is of tier {', '.join(missing)}; there are: {', '.join(by_tier)}")
    return {tier: by_tier[tier] for tier in wanted}


@asynccontextmanager
async def asked(settings: Settings, models: Mapping[str, Model]) -> AsyncIterator[dict[str, Asked]]:
    """The *models* by their tiers, ready to be asked. Raises PromptsFailed, EngineError."""
    for row in models.values():
        if row.file is not None:
            fetch(model_store(settings), row, row.file)
    rows = {m.name: m.model_copy(update=_roomy(m)) for m in models.values()}
    engines = make_engines(Catalog(rows, {}), settings)
    async with AsyncExitStack() as stack:
        for [engine] in engines.values():
            stack.push_async_callback(engine.stop)
            await engine.start()
        for name, [engine] in engines.items():
            await _until_ready(name, engine)
        yield {t: Asked(rows[m.name], t, ask_of(engines[m.name][0], rows[m.name])) for t, m in models.items()}


def ask_of(engine: Engine, model: Model) -> Ask:
    """What asks *engine*. An answer that is none says why; its seconds are the engine's own where it counts them."""

    async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        began = perf_counter()
        try:
            reply = await engine.begin(Call({**parameters, "messages": list(messages)}))
        except EngineError as error:
            return Answer(error=error.message)
        usage, seconds, document = reply.usage, reply.engine_seconds, reply.first
        await reply.close()
        took = perf_counter() - began
        said = orjson.loads(document)["choices"][0]["message"]
        return Answer(
            text=said.get("content") or "",
            tool_calls=tuple(_call(call) for call in said.get("tool_calls") or ()),
            seconds=took,
            cost_usd=None if usage is None else model.cost_usd(usage, took if seconds is None else seconds),
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            completion_tokens=None if usage is None else usage.completion_tokens,
        )

    return ask


def _call(call: Mapping[str, Any]) -> ToolCall:
    return ToolCall(call["function"]["name"], call["function"]["arguments"])


def _roomy(model: Model) -> dict[str, Any]:
    return {"context_tokens": min(model.context_tokens, CONTEXT_TOKENS), "parallel": PARALLEL, "replicas": ()}


async def _until_ready(name: str, engine: Engine) -> None:
    async with asyncio.timeout(READY_TIMEOUT_SECONDS):
        while (health := engine.health()).state is not EngineState.READY:
            if health.state is EngineState.FAILED:
                raise PromptsFailed(f"{name}: {health.detail}")
            await asyncio.sleep(POLL_SECONDS)
