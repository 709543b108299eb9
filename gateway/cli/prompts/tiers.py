"""Which models answer for which tier of prompts, and how many tokens a text is to each."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio.from_thread
import orjson

from gateway.cli.engines import started
from gateway.cli.prompts.place import PromptsFailed
from gateway.library.lineup import Lineup, Place
from gateway.served import served_catalog
from gateway.settings import Settings
from models.catalog import Model
from models.engine import Call, Engine, EngineError, Operation
from prompts.lint import Counter
from prompts.promptfile import Policy


@dataclass(frozen=True, slots=True)
class Target:
    """A model that answers for a tier. `row`: of this machine's catalogue, where it has one of that build."""

    place: Place
    row: Model | None = None

    @property
    def tier(self) -> str:
        return self.place.tier


def lineup_of(settings: Settings) -> Lineup:
    """The models that this machine's settings serve."""
    return Lineup.of(served_catalog(settings), settings.confidence)


def targets_of(lineup: Lineup, settings: Settings, policy: Policy) -> list[Target]:
    """Every model of *lineup*, the cheapest first; the last is the safe tier's."""
    rows = {row.build: row for row in served_catalog(settings).chatting}
    return [Target(place, rows.get(place.build)) for place in lineup.places(policy)]


def chosen(targets: Sequence[Target], tiers: str | None) -> list[Target]:
    """Those of the *tiers*, which are written with commas; all where none is. Raises PromptsFailed."""
    if tiers is None:
        return list(targets)
    names = [name.strip() for name in tiers.split(",") if name.strip()]
    there = list(dict.fromkeys(target.tier for target in targets))
    for name in names:
        if name not in there:
            raise PromptsFailed(
                f"--tiers {name}: no served model answers for such a tier; there are: {', '.join(there)}"
            )
    return [target for target in targets if target.tier in names]


@asynccontextmanager
async def counters(settings: Settings, targets: Sequence[Target]) -> AsyncIterator[Mapping[str, Counter]]:
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
        raise PromptsFailed(
            f"{target.place.model} does not count tokens: {error.message}; leave --tokens out"
        ) from error
    counted = orjson.loads(reply.first)["input_tokens"]
    await reply.close()
    return int(counted)
