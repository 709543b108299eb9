"""Ways to choose a model, by name. To add one: a file here and a line in STRATEGIES."""

from router.decision import Strategy
from router.strategies.evidence_first import EvidenceFirst
from router.strategies.fixed import Cheapest, Safe

STRATEGIES: dict[str, type[Strategy]] = {
    "evidence": EvidenceFirst,
    "safe": Safe,
    "cheapest": Cheapest,
}
