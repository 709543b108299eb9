"""Which answers are looked at after the client has them, and by whom. What is not looked at pays a comparison."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.cache.replies import Noted
from gateway.learning.assertions import Assertions
from gateway.learning.canaries import Comparisons
from gateway.learning.purse import Purse
from gateway.learning.shadows import Shadows
from gateway.learning.told import Outcomes
from gateway.limits.claim import LimitStore
from models.catalog import Model
from models.engine import Reply, Usage
from router.decision import Basis, Decision

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.schema import Asked

log = structlog.get_logger(__name__)

ON_TRUST = frozenset({Basis.EVIDENCE, Basis.DIFFICULTY})  # the answer of a check has been looked at
Look = Callable[[Sequence[bytes], Usage | None], None]


class Watch:
    """Lives as long as the process."""

    def __init__(self, outcomes: Outcomes, limits: LimitStore) -> None:
        self.shadows = Shadows(outcomes, Purse(limits))
        self.canaries = Comparisons(outcomes)
        self._assertions = Assertions(outcomes)

    async def close(self) -> None:
        """Give up what runs."""
        await self.shadows.close()
        await self.canaries.close()

    def watched(self, held: "Held", asked: "Asked", decision: Decision, model: Model, reply: Reply) -> Reply:
        """*reply* of *model*, unchanged; looked at once it is closed, if it has come to its end by then."""
        try:
            look = self._look(held, asked, decision, model)
        except Exception:  # the client gets its answer all the same
            log.exception("whether an answer is looked at cannot be said", request_id=held.request_id)
            return reply
        if look is None:
            return reply
        return _noted(reply, look) if asked.stream else _whole(reply, look)

    def _look(self, held: "Held", asked: "Asked", decision: Decision, model: Model) -> Look | None:
        if decision.basis is Basis.SAFE:
            drawn = self.shadows.draw(held, asked, decision, model)
            if drawn is not None:
                return lambda blocks, usage: self.shadows.ended(drawn, blocks, usage)
        elif decision.basis is Basis.CANARY:
            return self._look_at_canary(held, asked, decision, model)
        elif decision.basis in ON_TRUST and self._assertions.wants(held, asked, decision, model):
            return lambda blocks, usage: self._assertions.ended(asked, decision, model, blocks)
        return None

    def _look_at_canary(self, held: "Held", asked: "Asked", decision: Decision, model: Model) -> Look | None:
        """At what the tier that is tried has answered itself."""
        prompt = asked.prompt
        if prompt is None or prompt.share is None or model.name not in prompt.share.models:
            return None
        tried = (prompt.version.template.id, prompt.version.number)
        drawn = self.canaries.draw(held, asked, decision, model, tried)
        has_form = self._assertions.wants(held, asked, decision, model)

        def look(blocks: Sequence[bytes], usage: Usage | None) -> None:
            if has_form:
                self._assertions.ended(asked, decision, model, blocks, tried)
            if drawn is not None:
                self.canaries.ended(drawn, blocks)

        return look if has_form or drawn is not None else None


def _whole(reply: Reply, look: Look) -> Reply:
    reply.when_closed(lambda: _looked(look, [reply.first], reply.usage))
    return reply


def _noted(reply: Reply, look: Look) -> Reply:
    """A stream goes on as it comes; a copy of its blocks is kept for a look when it is over."""
    told: list[Sequence[bytes]] = []

    async def keep(blocks: Sequence[bytes], usage: Usage | None) -> None:
        told.append(blocks)

    noted = Noted(reply, keep)
    noted.when_closed(lambda: _looked(look, told[0], reply.usage) if told else None)
    return noted


def _looked(look: Look, blocks: Sequence[bytes], usage: Usage | None) -> None:
    try:
        look(blocks, usage)
    except Exception:  # the client has its answer
        log.exception("an answer could not be looked at")
