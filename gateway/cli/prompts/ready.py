"""Models of the catalogue by their tiers, started together and ready to be asked, for a search that needs several."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.cli.engines import started
from gateway.cli.prompts.asking import of_engine
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.tiers import Target
from gateway.library.lineup import Lineup
from gateway.settings import Settings
from models.catalog import Catalog, Model
from prompts.answer import Answer
from prompts.examination import Ask
from prompts.library import tier_of
from prompts.message import Message
from prompts.optimise.budget import Purse

CONTEXT_TOKENS = 4096  # a prompt with its examples and a short answer
PARALLEL = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """A model of the catalogue that is ready, and the way to ask it."""

    model: Model
    tier: str
    ask: Ask


@dataclass(frozen=True, slots=True)
class Ready:
    """Models that run already, for those whom assertions ask. What is asked of them is paid from *purse*, and with that
    the search ends, not the answer that is being judged.
    """

    on: Mapping[str, Asked]
    lineup: Lineup
    purse: Purse

    @asynccontextmanager
    async def asking(self, target: Target) -> AsyncIterator[Ask]:
        ask = self.on[target.tier].ask

        async def paid(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
            self.purse.reserve(1)
            answer = await ask(messages, parameters)
            self.purse.pay(answer.cost_usd)
            return answer

        yield paid


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
    """The *models* by their tiers. Raises what `gateway.cli.engines.started` does."""
    async with AsyncExitStack() as stack:
        ready: dict[str, Asked] = {}
        for tier, model in models.items():
            row = model.model_copy(update=_small(model))
            engine = await stack.enter_async_context(started(settings, row))
            ready[tier] = Asked(row, tier, of_engine(engine, row))
        yield ready


def _small(model: Model) -> dict[str, Any]:
    """Several are in memory at once."""
    return {"context_tokens": min(model.context_tokens, CONTEXT_TOKENS), "parallel": PARALLEL, "replicas": ()}
