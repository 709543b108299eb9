"""Which models answer for which tier of prompts, and how many tokens a text is to each."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio.from_thread
import orjson

from gateway.cli.engines import started
from gateway.cli.prompts.place import PromptsFailed
from gateway.served import served_catalog
from gateway.settings import Settings
from models.catalog import Model
from models.engine import Call, Engine, EngineError, Operation
from prompts.library import tier_of
from prompts.lint import Counter
from prompts.promptfile import Policy


@dataclass(frozen=True, slots=True)
class Target:
    """A model that answers for a tier. `row`: of this machine's catalogue, where it has one of that build."""

    tier: str
    model: str
    build: str
    row: Model | None = None


def served_targets(settings: Settings, policy: Policy) -> list[Target]:
    """The models that this machine's settings serve, the cheapest first; the last is the safe tier's."""
    chatting = served_catalog(settings).chatting
    return [
        Target(tier_of(place, len(chatting), policy.tiers), row.name, row.build, row)
        for place, row in enumerate(chatting)
    ]


def chosen(targets: list[Target], tiers: str | None) -> list[Target]:
    """Those of the *tiers*, which are written with commas; all where none is. Raises PromptsFailed."""
    if tiers is None:
        return targets
    names = [name.strip() for name in tiers.split(",") if name.strip()]
    there = list(dict.fromkeys(target.tier for target in targets))
    for name in names:
        if name not in there:
            raise PromptsFailed(f"--tiers {name}: no served model answers for such a tier; there are: {', '.join(there)}")
    return [target for target in targets if target.tier in names]


@asynccontextmanager
async def counters(settings: Settings, targets: list[Target]) -> AsyncIterator[Mapping[str, Counter]]:
    """By tier, what counts tokens with the tokenizer of its model; its engine runs meanwhile. Call them in a thread."""
    async with AsyncExitStack() as engines:
        made: dict[str, Counter] = {}
        for target in targets:
            if target.row is None or target.tier in made:
                continue
            engine = await engines.enter_async_context(started(settings, target.row))
            made[target.tier] = await _counter(engine, target)
        yield made


async def _counter(engine: Engine, target: Target) -> Counter:
    around = await _tokens(engine, target, "")  # what the chat template puts around a message

    def count(text: str) -> int:
        return anyio.from_thread.run(_tokens, engine, target, text) - around if text else 0

    return count


async def _tokens(engine: Engine, target: Target, text: str) -> int:
    body = {"messages": [{"role": "user", "content": text}]}
    try:
        reply = await engine.begin(Call(body, operation=Operation.COUNT))
    except EngineError as error:
        raise PromptsFailed(f"{target.model} does not count tokens: {error.message}; leave --tokens out") from error
    counted = orjson.loads(reply.first)["input_tokens"]
    await reply.close()
    return int(counted)
