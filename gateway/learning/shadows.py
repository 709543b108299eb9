"""Shadows: what the safe tier has answered is, for a share of the requests, asked a cheaper model too, after the client
has its answer; whether both say the same is an outcome of the cheaper one.

**What such an outcome promises.** The safe answer is taken as right, so a pass is agreement with it, and the share of
passes a lower bound on equal quality as far as the comparer goes (`prompts.compare`). It is of requests like those that
were compared: text alone, asked of `auto`, and not withheld by their callers.

**Not chosen by the result.** A request is drawn by its id, before anybody has answered. What happens later to a drawn
one does not depend on what the cheaper model says: it is dropped where that model has no place to spare, where another
shadow runs, where the day's money is over or the engine cannot be reached. What does depend on it is a failure: an
answer that takes too long, is cut off or refused. A safe answer that nothing can be compared with is a failure too,
once others of its template were compared (`gateway.learning.told`).

**Nobody waits for it.** One at a time in each process, only where a place is free and another stays free or nothing is
being answered at all, never repeated or hedged, and not begun before the client has the last byte. What can be: a
request for the cheaper model that comes meanwhile finds one place taken. Nothing of prompts or answers is kept.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import sqrt
from time import time
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from gateway.cache.key import looks_outside
from gateway.keys import Caller
from gateway.learning.answered import Said, said
from gateway.learning.purse import EXPLORER, SECONDS_LIMIT, Allowance, Purse, Spent, worst_nano_usd
from gateway.learning.section import LearningSection, SimilarTo
from gateway.learning.store import Key
from gateway.learning.told import Outcomes
from gateway.ledger.charge import SHADOW, Outcome
from gateway.limits.claim import NEVER_BEGUN, NotReserved
from gateway.limits.policy import OUTPUT_FIELDS, actual_of
from models.catalog import Ability, Catalog, Model
from models.engine import Call, ContextTooLong, EngineError, EngineRefused, Operation, Usage
from models.engines import LOCAL_ENGINES
from prompts.compare import Comparer, Exact, Graded, Json, Similar, usual
from prompts.form import wants_json
from router.decision import Decision, Mode
from router.exploring import choose, is_drawn, number_of, undecided
from router.sources import Source

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.meter import Tab
    from gateway.runtime import Runtime
    from gateway.schema import Asked

log = structlog.get_logger(__name__)

HEADER = b"x-pointsman-shadow"
PRIORITY = 20  # batches have 10
COMPARABLE = frozenset({Ability.CHAT, Ability.STRUCTURED, Ability.REASONING})  # what else is asked for is no one text
WORTH_ASKING = 8  # drawn requests of a template before one is sent: a record is for ever, and most templates are not
SEEN_LIMIT = 4_096  # templates of which that is remembered
ANSWER_FACTOR, ANSWER_TOKENS = 4, 256  # an answer that is so much longer than the safe one is cut off, and different
UNKNOWN_TOKENS = 1_024  # of a safe answer that its engine did not count
NOT_SENT = frozenset({"stream", "stream_options", "store", "metadata"})  # how it is sent, and what a server keeps
COMPARERS: Mapping[str, Comparer | None] = {"exact": Exact(), "json": Json(), "number": Graded("number"), "none": None}


class Result(StrEnum):
    """What came of a drawn request; the metric's label."""

    SAME = "same"
    DIFFERENT = "different"
    TOO_LONG = "too_long"  # different, too: it was not over in time
    INCOMPARABLE = "incomparable"
    TOO_DEAR = "too_dear"  # as incomparable: no day's money would do
    BUSY = "busy"
    SPENT = "spent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A request that is to be compared once it is answered."""

    runtime: "Runtime"
    asked: "Asked"
    decision: Decision
    model: Model
    request_id: str
    allowance: Allowance

    @property
    def key(self) -> Key:
        key = self.decision.group or self.decision.template
        assert key is not None
        return key, self.model.build


class Shadows:
    """From one event loop. `draw` takes a microsecond for what is not drawn."""

    def __init__(self, outcomes: Outcomes, purse: Purse) -> None:
        self._outcomes = outcomes
        self._purse = purse
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._running: asyncio.Task[None] | None = None

    @property
    def rests(self) -> bool:
        """No shadow is under way."""
        return self._running is None

    def draw(self, held: "Held", asked: "Asked", decision: Decision, answering: Model) -> Drawn | None:
        """What to do once *answering*, the safe tier, has answered; None for nothing."""
        runtime = held.runtime
        learning = runtime.settings.learning
        number = number_of(held.request_id)
        template = decision.group or decision.template
        if template is None or not is_drawn(number, learning.explore_share):
            return None
        if answering.name != runtime.knowledge.safe.name or not _may_be_compared(asked, held.headers):
            return None
        if (
            runtime.knowledge.mode_of(decision.template) is Mode.OFF
            or learning.compare.get(decision.template or "") == "none"
        ):
            return None
        allowance = Allowance.of(runtime.settings)
        able = _covered(runtime.catalog, asked, held.known_caller, allowance)
        models = undecided(template, able, runtime.knowledge)
        if not models or not self._is_worth_it(template, runtime):
            return None
        model = choose(models, number, learning.explore_share)
        return Drawn(runtime, asked, decision, model, held.request_id, allowance)

    def ended(self, drawn: Drawn, blocks: Sequence[bytes], usage: Usage | None) -> None:
        """The client has the safe answer, whole."""
        if self._running is not None or not _is_quiet(drawn.runtime, drawn.model):
            self._count(drawn, Result.BUSY)
            return
        right = said(blocks, streamed=drawn.asked.stream)
        comparer = _comparer(drawn, right)
        if right is None or right.text is None or comparer is None:
            self._tell(drawn, Result.INCOMPARABLE)
            return
        tokens = usage.completion_tokens if usage else UNKNOWN_TOKENS
        self._running = asyncio.create_task(self._run(drawn, right.text, tokens, comparer), name="shadow")
        self._running.add_done_callback(self._rested)

    async def close(self) -> None:
        """Give up what runs; its charge is closed."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def _rested(self, ended: asyncio.Task[None]) -> None:
        self._running = None

    async def _run(self, drawn: Drawn, right: str, tokens: int, comparer: Comparer) -> None:
        try:
            self._tell(drawn, await self._result(drawn, right, tokens, comparer))
        except EngineError as error:
            log.info("a shadow failed", model=drawn.model.name, error=error.message)
            self._count(drawn, Result.FAILED)
        except NotReserved as error:
            log.warning("nothing is explored while its money cannot be counted", error=str(error))
            self._count(drawn, Result.FAILED)
        except Exception:  # nobody waits for it
            log.exception("a shadow failed", request_id=drawn.request_id)
            self._count(drawn, Result.FAILED)

    async def _result(self, drawn: Drawn, right: str, tokens: int, comparer: Comparer) -> Result:
        """Raises EngineError, NotReserved."""
        asked = drawn.asked.told(drawn.model.name)
        body = _body(asked.body, ANSWER_FACTOR * tokens + ANSWER_TOKENS, drawn.model)
        worst = worst_nano_usd(body, asked.body_bytes, drawn.model)
        try:
            reservation = await self._purse.take(worst, drawn.allowance)
        except Spent as spent:
            return Result.TOO_DEAR if spent.never else Result.SPENT
        if not _is_quiet(drawn.runtime, drawn.model):  # any more
            await self._purse.settle(reservation, NEVER_BEGUN)
            return Result.BUSY
        tab = _opened(drawn)
        try:
            other = await _asked(drawn, tab, body)
        except TimeoutError:
            tab.close(Outcome.CUT, None)
            return Result.TOO_LONG
        except EngineRefused as refused:  # a client would have been refused, too; what is too long goes elsewhere
            tab.close(Outcome.REFUSED, None, refused.code)
            return Result.FAILED if isinstance(refused, ContextTooLong) else Result.DIFFERENT
        finally:
            tab.close(Outcome.FAILED, None)  # cancelled, or a fault of ours; after another close it does nothing
            assert tab.charge is not None
            await self._purse.settle(reservation, actual_of(tab.charge))
        if other is None or other.text is None or not other.is_whole:
            return Result.DIFFERENT
        cosine = await _cosine(drawn.runtime, right, other.text) if comparer.by_vectors else None
        return Result.SAME if comparer.same(right, other.text, cosine) else Result.DIFFERENT

    def _tell(self, drawn: Drawn, result: Result) -> None:
        self._count(drawn, result)
        if result in (Result.SAME, Result.DIFFERENT, Result.TOO_LONG):
            self._outcomes.tell(Source.SHADOW, drawn.key, passed=result is Result.SAME, at=time())
        elif result in (Result.INCOMPARABLE, Result.TOO_DEAR):
            self._outcomes.tell(Source.SHADOW, drawn.key, passed=False, at=time(), incomparable=True)

    def _count(self, drawn: Drawn, result: Result) -> None:
        drawn.runtime.meter.metrics.shadows.of(drawn.model.name, result).inc()

    def _is_worth_it(self, template: str, runtime: "Runtime") -> bool:
        """Not before it was drawn a few times, unless something is known of it."""
        if runtime.knowledge.knows(template):
            return True
        times = self._seen.pop(template, 0) + 1
        self._seen[template] = times
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)
        return times >= WORTH_ASKING


def is_withheld(body: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """The caller wants no shadow of it: `store: false`, or the header says anything but on."""
    return body.get("store") is False or headers.get(HEADER, b"on").strip().lower() != b"on"


def _may_be_compared(asked: "Asked", headers: Mapping[bytes, bytes]) -> bool:
    """Whether one text is asked for, of nothing but text."""
    is_text = asked.operation is Operation.CHAT and asked.needs <= COMPARABLE and not asked.body.get("functions")
    return is_text and not looks_outside(asked) and not is_withheld(asked.body, headers)


def _covered(catalog: Catalog, asked: "Asked", caller: Caller, allowance: Allowance) -> list[Model]:
    """The models that could have answered the caller's request, and for which there is money."""
    able = [m for m in catalog.models_for(asked.needs) if asked.prompt is None or m.name in asked.prompt.variants]
    return [m for m in able if (caller.models is None or m.name in caller.models) and allowance.covers(m)]


def _is_quiet(runtime: "Runtime", model: Model) -> bool:
    """Nobody would wait for it: *model* has a place to spare, and if it works on this machine nothing else does."""
    engine = runtime.engines.get(model.name)
    if engine is None or not engine.has_spare():  # a reload may have taken it away
        return False
    if model.engine not in LOCAL_ENGINES:
        return True
    local = [runtime.engines[m.name] for m in runtime.catalog if m.engine in LOCAL_ENGINES]
    return not any(engine.in_flight or engine.waiting for engine in local)


def _comparer(drawn: Drawn, right: Said | None) -> Comparer | None:
    """What compares an answer with *right*; None where nothing does."""
    if right is None or right.text is None or not right.is_whole:
        return None
    learning: LearningSection = drawn.runtime.settings.learning
    wanted = learning.compare.get(drawn.decision.template or "")
    comparer: Comparer | None
    if wanted is None:
        comparer = usual(right.text, as_json=wants_json(drawn.asked.body))
    elif isinstance(wanted, SimilarTo):
        comparer = Similar(wanted.similar) if _embedder(drawn.runtime) is not None else None
    else:
        comparer = COMPARERS[wanted]
    return comparer if comparer is not None and comparer.takes(right.text) else None


def _body(body: Mapping[str, Any], most_tokens: int, model: Model) -> dict[str, Any]:
    """What *model* is asked: the same, and not to answer at greater length than *most_tokens*."""
    sent = {name: value for name, value in body.items() if name not in NOT_SENT}
    limits = [name for name in OUTPUT_FIELDS if body.get(name) is not None] or ["max_tokens"]
    for name in limits:
        sent[name] = min(most_tokens, body.get(name) or model.context_tokens, model.context_tokens)
    return sent


def _opened(drawn: Drawn) -> "Tab":
    """A charge of its own, found beside the request's by its id; whose it is: nobody's but the gateway's."""
    tab = drawn.runtime.meter.open_shadow(f"{drawn.request_id}-{SHADOW}", drawn.runtime.catalog.safe)
    tab.held_by(EXPLORER, SHADOW)
    tab.asked(drawn.asked.name, streamed=False)
    if drawn.asked.prompt is not None:
        tab.prompted(drawn.asked.prompt.version.template.id, drawn.asked.prompt.version.number)
        tab.told(drawn.asked.prompt.variants[drawn.model.name])
    reason = f"compared with the answer of {drawn.decision.model} to {drawn.request_id}"
    tab.decided(replace(drawn.decision, order=(drawn.model.name,), reason=reason), 0.0)
    return tab


async def _asked(drawn: Drawn, tab: "Tab", body: Mapping[str, Any]) -> Said | None:
    """Raises EngineError; TimeoutError for one that is not over in time."""
    call = Call(body, priority=PRIORITY, affinity=drawn.decision.template, request_id=tab.request_id)
    tab.calling(drawn.model)
    async with asyncio.timeout(SECONDS_LIMIT):
        reply = await drawn.runtime.engines[drawn.model.name].begin_aside(call)
    try:
        tab.answering(reply)
        tab.close(Outcome.OK, None)
        return said([reply.first], streamed=False)
    finally:
        await reply.close()


def _embedder(runtime: "Runtime") -> Model | None:
    return next((model for model in runtime.catalog if model.engine == "embedder"), None)


async def _cosine(runtime: "Runtime", one: str, other: str) -> float:
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
