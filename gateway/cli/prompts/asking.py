"""How a suite's questions reach a model: an engine that this command has started, or a gateway that runs already."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

import orjson

from gateway.cache.embedding import local_embedder
from gateway.cli.engines import started
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.tiers import Target, targets_of
from gateway.library.lineup import Lineup
from gateway.settings import Settings
from models.catalog import Model
from models.engine import Call, Engine, EngineBusy, EngineError, Usage
from prompts.answer import Answer, ToolCall
from prompts.assertions.kind import Asks, Embed, Needs
from prompts.examination import Ask
from prompts.judgement import FORM, Judge, Judgement, judge_messages, read_judgement
from prompts.message import Message
from prompts.promptfile import Policy
from router.through import Gateway

TRIES = 4  # of an answer of an engine that is busy
LONGEST_PAUSE_SECONDS = 30.0
JUDGE_TOKENS = 256  # of a sentence of reason and a score


class Models(Protocol):
    """Where models can be asked. `lineup`: which there are, and for which tier."""

    @property
    def lineup(self) -> Lineup: ...

    def asking(self, target: Target) -> AbstractAsyncContextManager[Ask]: ...


class Here:
    """Engines that run while they are asked, as weights fill the memory; one that runs already serves two who ask."""

    def __init__(self, settings: Settings, lineup: Lineup) -> None:
        self._settings, self.lineup = settings, lineup
        self._asked: dict[str, Ask] = {}

    @asynccontextmanager
    async def asking(self, target: Target) -> AsyncIterator[Ask]:
        assert target.row is not None
        if (running := self._asked.get(target.row.name)) is not None:
            yield running
            return
        async with started(self._settings, target.row) as engine:
            ask = self._asked[target.row.name] = of_engine(engine, target.row)
            try:
                yield ask
            finally:
                del self._asked[target.row.name]


class Running:
    """A gateway that answers at an address, asked for each model by its name."""

    def __init__(self, gateway: Gateway, lineup: Lineup) -> None:
        self._gateway, self.lineup = gateway, lineup

    @asynccontextmanager
    async def asking(self, target: Target) -> AsyncIterator[Ask]:
        async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
            body = {**parameters, "model": target.place.model, "messages": list(messages)}
            status, _, document, seconds = await self._gateway.chat(body)
            if status != 200 or not document.get("choices"):
                said = (document.get("error") or {}).get("message") or "no answer"
                return Answer(error=f"status {status}: {said}")
            used = document.get("usage") or {}
            usage = Usage(used["prompt_tokens"], used["completion_tokens"]) if "prompt_tokens" in used else None
            return _answer(document, usage, seconds, target.row)

        yield ask


@asynccontextmanager
async def models_here(settings: Settings, lineup: Lineup) -> AsyncIterator[Models]:
    yield Here(settings, lineup)


@asynccontextmanager
async def models_at(url: str, key: str | None, settings: Settings, lineup: Lineup) -> AsyncIterator[Models]:
    """Raises ThroughFailed."""
    gateway = Gateway(url, key)
    try:
        offer = await gateway.offer()
        served = tuple((model.name, model.build) for model in offer.models)
        yield Running(gateway, replace(lineup, models=served))
    finally:
        await gateway.close()


@asynccontextmanager
async def whom_to_ask(
    models: Models, settings: Settings, policy: Policy, needs: frozenset[Needs]
) -> AsyncIterator[Asks]:
    """Whom assertions ask: the safe tier's model judges, the embedder that ships compares."""
    async with AsyncExitStack() as stack:
        judge: Judge | None = None
        if Needs.JUDGE in needs:
            safe = targets_of(models.lineup, settings, policy)[-1]
            judge = _judge(await stack.enter_async_context(models.asking(safe)))
        yield Asks(judge, _embed() if Needs.EMBEDDER in needs else None)


def of_engine(engine: Engine, row: Model) -> Ask:
    async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        for attempt in range(1, TRIES + 1):
            began = perf_counter()
            try:
                reply = await engine.begin(Call({**parameters, "messages": list(messages)}))
            except EngineBusy as error:
                if attempt == TRIES:
                    return Answer(error=error.message)
                await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, error.retry_after_seconds or 2.0**attempt))
                continue
            except EngineError as error:
                return Answer(error=error.message)
            seconds = perf_counter() - began if reply.engine_seconds is None else reply.engine_seconds
            await reply.close()
            return _answer(orjson.loads(reply.first), reply.usage, seconds, row)
        raise AssertionError("not reached")

    return ask


def _answer(document: Mapping[str, Any], usage: Usage | None, seconds: float, row: Model | None) -> Answer:
    said = document["choices"][0].get("message") or {}
    calls = [call.get("function") or {} for call in said.get("tool_calls") or ()]
    return Answer(
        text=said.get("content") or "",
        tool_calls=tuple(ToolCall(call.get("name") or "", call.get("arguments") or "") for call in calls),
        seconds=seconds,
        cost_usd=None if usage is None or row is None else row.cost_usd(usage, seconds),
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
    )


def _judge(ask: Ask) -> Judge:
    form = {"type": "json_schema", "json_schema": {"name": "judgement", "schema": FORM, "strict": True}}
    parameters = {"temperature": 0, "max_tokens": JUDGE_TOKENS, "response_format": form}

    async def judge(criterion: str, answer: str, messages: Sequence[Message]) -> Judgement:
        said = await ask(judge_messages(criterion, answer, messages), parameters)
        return Judgement(None, reason=said.error) if said.error is not None else read_judgement(said.text)

    return judge


def _embed() -> Embed:
    """Raises PromptsFailed where it is not installed."""
    try:
        vectors = local_embedder()
    except ValueError as error:
        raise PromptsFailed(str(error)) from error

    async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return await asyncio.to_thread(vectors, list(texts))

    return embed
