"""A call that no client has asked for, made once a client has its answer, to compare another model's with it: what is
asked, of whom, and what two answers are compared by. Nobody waits for it, and nothing of prompts or answers is kept.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any

import orjson

from gateway.cache.key import looks_outside
from gateway.keys import Caller
from gateway.learning.answered import Said, said
from gateway.learning.purse import EXPLORER, SECONDS_LIMIT
from gateway.learning.section import LearningSection, SimilarTo
from gateway.ledger.charge import SHADOW, Outcome
from gateway.limits.policy import OUTPUT_FIELDS
from models.catalog import Ability, Model
from models.engine import Call, Operation
from models.engines import LOCAL_ENGINES
from prompts.compare import Comparer, Exact, Graded, Json, Similar, usual
from prompts.form import wants_json
from router.decision import Decision

if TYPE_CHECKING:
    from gateway.meter import Tab
    from gateway.runtime import Runtime
    from gateway.schema import Asked

HEADER = b"x-pointsman-shadow"
PRIORITY = 20  # batches have 10
COMPARABLE = frozenset({Ability.CHAT, Ability.STRUCTURED, Ability.REASONING})  # what else is asked for is no one text
NOT_SENT = frozenset({"stream", "stream_options", "store", "metadata"})  # how it is sent, and what a server keeps
COMPARERS: Mapping[str, Comparer | None] = {"exact": Exact(), "json": Json(), "number": Graded("number"), "none": None}


@dataclass(frozen=True, slots=True)
class Aside:
    """A request that is asked of *model* as well, once it is answered. `payer`: in whose name the ledger has it."""

    runtime: "Runtime"
    asked: "Asked"
    decision: Decision
    model: Model
    request_id: str
    payer: Caller = EXPLORER


class OneAtATime:
    """Runs what nobody waits for, while nothing else of it runs. From one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def rests(self) -> bool:
        return self._task is None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._task is None
        self._task = asyncio.create_task(work, name=self._name)
        self._task.add_done_callback(self._rested)

    async def close(self) -> None:
        """Give up what runs; its charge is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _rested(self, ended: asyncio.Task[None]) -> None:
        self._task = None


def is_withheld(body: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """The caller wants no shadow of it: `store: false`, or the header says anything but on."""
    return body.get("store") is False or headers.get(HEADER, b"on").strip().lower() != b"on"


def may_be_compared(asked: "Asked", headers: Mapping[bytes, bytes]) -> bool:
    """Whether one text is asked for, of nothing but text."""
    is_text = asked.operation is Operation.CHAT and asked.needs <= COMPARABLE and not asked.body.get("functions")
    return is_text and not looks_outside(asked) and not is_withheld(asked.body, headers)


def is_quiet(runtime: "Runtime", model: Model) -> bool:
    """Nobody would wait for it: *model* has a place to spare, and if it works on this machine nothing else does."""
    engine = runtime.engines.get(model.name)
    if engine is None or not engine.has_spare():  # a reload may have taken it away
        return False
    if model.engine not in LOCAL_ENGINES:
        return True
    local = [runtime.engines[m.name] for m in runtime.catalog if m.engine in LOCAL_ENGINES]
    return not any(engine.in_flight or engine.waiting for engine in local)


def comparer_of(aside: Aside, right: Said | None) -> Comparer | None:
    """What compares an answer with *right*; None where nothing does."""
    if right is None or right.text is None or not right.is_whole:
        return None
    learning: LearningSection = aside.runtime.settings.learning
    wanted = learning.compare.get(aside.decision.template or "")
    comparer: Comparer | None
    if wanted is None:
        comparer = usual(right.text, as_json=wants_json(aside.asked.body))
    elif isinstance(wanted, SimilarTo):
        comparer = Similar(wanted.similar) if _embedder(aside.runtime) is not None else None
    else:
        comparer = COMPARERS[wanted]
    return comparer if comparer is not None and comparer.takes(right.text) else None


def body_of(body: Mapping[str, Any], most_tokens: int, model: Model) -> dict[str, Any]:
    """What *model* is asked: the same, and not to answer at greater length than *most_tokens*."""
    sent = {name: value for name, value in body.items() if name not in NOT_SENT}
    limits = [name for name in OUTPUT_FIELDS if body.get(name) is not None] or ["max_tokens"]
    for name in limits:
        sent[name] = min(most_tokens, body.get(name) or model.context_tokens, model.context_tokens)
    return sent


def opened(aside: Aside) -> "Tab":
    """A charge of its own, found beside the request's by its id; whose it is: nobody's but the gateway's."""
    tab = aside.runtime.meter.open_shadow(f"{aside.request_id}-{SHADOW}", aside.runtime.catalog.safe)
    tab.held_by(aside.payer, SHADOW)
    tab.asked(aside.asked.name, streamed=False)
    if aside.asked.prompt is not None:
        tab.prompted(aside.asked.prompt.version.template.id, aside.asked.prompt.version.number)
        tab.told(aside.asked.prompt.variants[aside.model.name])
    reason = f"compared with the answer of {aside.decision.model} to {aside.request_id}"
    tab.decided(replace(aside.decision, order=(aside.model.name,), reason=reason), 0.0)
    return tab


async def ask_aside(aside: Aside, tab: "Tab", body: Mapping[str, Any]) -> Said | None:
    """Raises EngineError; TimeoutError for one that is not over in time."""
    call = Call(body, priority=PRIORITY, affinity=aside.decision.template, request_id=tab.request_id)
    tab.calling(aside.model)
    async with asyncio.timeout(SECONDS_LIMIT):
        reply = await aside.runtime.engines[aside.model.name].begin_aside(call)
    try:
        tab.answering(reply)
        tab.close(Outcome.OK, None)
        return said([reply.first], streamed=False)
    finally:
        await reply.close()


def _embedder(runtime: "Runtime") -> Model | None:
    return next((model for model in runtime.catalog if model.engine == "embedder"), None)


async def cosine(runtime: "Runtime", one: str, other: str) -> float:
    """Of the two texts' vectors; 0 for an empty one. Raises EngineError."""
    model = _embedder(runtime)
    if model is None or not one.strip() or not other.strip():
        return 0.0
    call = Call({"input": [one, other]}, operation=Operation.EMBEDDING, priority=PRIORITY)
    reply = await runtime.engines[model.name].begin(call)
    try:
        first, second = (item["embedding"] for item in orjson.loads(reply.first)["data"])
    finally:
        await reply.close()
    lengths = sqrt(sum(x * x for x in first)) * sqrt(sum(x * x for x in second))
    return float(sum(x * y for x, y in zip(first, second, strict=True)) / lengths) if lengths else 0.0
