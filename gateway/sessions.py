"""Which model a session is with. In this process, bounded; knows no requests."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from models.catalog import Model
from router.decision import Basis, Decision

SESSIONS_LIMIT = 10_000  # the ones used last; about 2 MB
SESSION_SECONDS = 3600.0  # since its last request; an engine's prefix cache forgets sooner
# What these rest on goes before a warm cache.
STEADY = frozenset({Basis.PINNED, Basis.EVIDENCE, Basis.CANARY, Basis.FAULT})


class Sessions:
    """A session stays with its model, whose prefix cache is warm, unless evidence says otherwise.

    By the looks of one turn it may move up, as that turn may need it, and never back down.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._models: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def stick(self, session: str, decision: Decision, models: Sequence[Model]) -> Decision:
        """*decision*, or one for the model that the session is with. *models*: those that are able, cheapest first."""
        now = self._clock()
        name, until = self._models.pop(session, ("", 0.0))
        order = [model.name for model in models]
        stays = (
            until > now
            and decision.basis not in STEADY
            and name in order
            and decision.model in order
            and order.index(name) > order.index(decision.model)
        )
        if stays:
            kept = (name, *(n for n in order[order.index(name) + 1 :] if n in decision.order))
            reason = f"the session stays with {name}; {decision.reason}"
            decision = replace(decision, order=kept, chosen=decision.order, reason=reason, check=None, second=None)
        self._models[session] = decision.model, now + SESSION_SECONDS
        if len(self._models) > SESSIONS_LIMIT:
            self._models.popitem(last=False)
        return decision
