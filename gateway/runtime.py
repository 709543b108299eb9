"""Everything a running gateway holds, in one frozen object: built by `gateway.app`, swapped whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import structlog
from prometheus_client import CollectorRegistry

from gateway.keys import Keys
from gateway.ledger.store import Ledger
from gateway.limits import Limited
from gateway.meter import Meter
from gateway.schema import ChatRequest
from gateway.settings import Settings
from models.catalog import AUTO, Catalog
from models.engine import EngineState
from prompts.message import template_key
from router.decision import Basis, Decision, Knowledge, Question, Strategy
from router.features import features

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runtime:
    settings: Settings
    catalog: Catalog
    engines: Mapping[str, Limited]
    strategy: Strategy
    knowledge: Knowledge
    keys: Keys
    ledger: Ledger
    meter: Meter
    registry: CollectorRegistry

    def ready(self) -> bool:
        """The safe tier can be called, so every request can be answered."""
        return self.engines[self.catalog.safe.name].health().state is EngineState.READY


def decide(strategy: Strategy, knowledge: Knowledge, request: ChatRequest) -> tuple[Decision, float]:
    """Which model answers *request*, and how many seconds that took. A fault of the router chooses the safe tier."""
    start = perf_counter()
    template = None
    try:
        template = template_key(request.body)
        if request.target != AUTO:
            decision = Decision((request.target,), Basis.PINNED, "the request names the model", template)
        else:
            decision = strategy.decide(Question(template, features(request.body)), knowledge)
    except Exception:  # whatever it is, the client gets the safe answer
        log.exception("the router failed; the safe tier serves")
        decision = Decision((knowledge.safe.name,), Basis.FAULT, "the router failed", template)
    return decision, perf_counter() - start
