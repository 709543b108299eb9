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

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import time
from typing import TYPE_CHECKING

import structlog

from gateway.keys import Caller
from gateway.learning.answered import said
from gateway.learning.aside import (
    Aside,
    OneAtATime,
    ask_aside,
    body_of,
    comparer_of,
    cosine,
    is_quiet,
    may_be_compared,
    opened,
)
from gateway.learning.purse import NOTHING, Allowance, Purse, Spent, worst_nano_usd
from gateway.learning.store import Key
from gateway.learning.told import Outcomes
from gateway.ledger.charge import Outcome
from gateway.limits.claim import NEVER_BEGUN, NotReserved
from gateway.limits.policy import actual_of
from models.catalog import Catalog, Model
from models.engine import ContextTooLong, EngineError, EngineRefused, Usage
from prompts.compare import Comparer
from router.decision import Decision, Mode
from router.exploring import choose, is_drawn, number_of, undecided
from router.sources import Source

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.runtime import Runtime
    from gateway.schema import Asked

log = structlog.get_logger(__name__)

WORTH_ASKING = 8  # drawn requests of a template before one is sent: a record is for ever, and most templates are not
SEEN_LIMIT = 4_096  # templates of which that is remembered
ANSWER_FACTOR, ANSWER_TOKENS = 4, 256  # an answer that is so much longer than the safe one is cut off, and different
UNKNOWN_TOKENS = 1_024  # of a safe answer that its engine did not count


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
class Drawn(Aside):
    """A request that is to be compared once it is answered, if *allowance* does."""

    allowance: Allowance = NOTHING

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
        self._comparing = OneAtATime("shadow")

    @property
    def rests(self) -> bool:
        """No shadow is under way."""
        return self._comparing.rests

    def draw(self, held: "Held", asked: "Asked", decision: Decision, answering: Model) -> Drawn | None:
        """What to do once *answering*, the safe tier, has answered; None for nothing."""
        runtime = held.runtime
        learning = runtime.settings.learning
        number = number_of(held.request_id)
        template = decision.group or decision.template
        if template is None or not is_drawn(number, learning.explore_share):
            return None
        if answering.name != runtime.knowledge.safe.name or not may_be_compared(asked, held.headers):
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
        return Drawn(runtime, asked, decision, model, held.request_id, allowance=allowance)

    def ended(self, drawn: Drawn, blocks: Sequence[bytes], usage: Usage | None) -> None:
        """The client has the safe answer, whole."""
        if not self.rests or not is_quiet(drawn.runtime, drawn.model):
            self._count(drawn, Result.BUSY)
            return
        right = said(blocks, streamed=drawn.asked.stream)
        comparer = comparer_of(drawn, right)
        if right is None or right.text is None or comparer is None:
            self._tell(drawn, Result.INCOMPARABLE)
            return
        tokens = usage.completion_tokens if usage else UNKNOWN_TOKENS
        self._comparing.start(self._run(drawn, right.text, tokens, comparer))

    async def close(self) -> None:
        """Give up what runs; its charge is closed."""
        await self._comparing.close()

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
        body = body_of(asked.body, ANSWER_FACTOR * tokens + ANSWER_TOKENS, drawn.model)
        worst = worst_nano_usd(body, asked.body_bytes, drawn.model)
        try:
            reservation = await self._purse.take(worst, drawn.allowance)
        except Spent as spent:
            return Result.TOO_DEAR if spent.never else Result.SPENT
        if not is_quiet(drawn.runtime, drawn.model):  # any more
            await self._purse.settle(reservation, NEVER_BEGUN)
            return Result.BUSY
        tab = opened(drawn)
        try:
            other = await ask_aside(drawn, tab, body)
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
        by_vectors = await cosine(drawn.runtime, right, other.text) if comparer.by_vectors else None
        return Result.SAME if comparer.same(right, other.text, by_vectors) else Result.DIFFERENT

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


def _covered(catalog: Catalog, asked: "Asked", caller: Caller, allowance: Allowance) -> list[Model]:
    """The models that could have answered the caller's request, and for which there is money."""
    able = [m for m in catalog.models_for(asked.needs) if asked.prompt is None or m.name in asked.prompt.variants]
    return [m for m in able if (caller.models is None or m.name in caller.models) and allowance.covers(m)]
