"""Replicas of one model: what is known about each, and which one a call should go to. No I/O here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from gateway.dispatch.breaker import Breaker, BreakerState
from models.catalog import Model
from models.engine import Engine, EngineState

LONGEST_COOLDOWN_SECONDS = 60.0  # an engine may ask for an hour; asking it again each minute costs one call
LOAD_BOUND_SHARE = 1.25  # Mirrokni et al., "Consistent hashing with bounded loads": at most so many times the average
LOAD_BOUND_CALLS = 1  # and one more, else two calls on idle replicas would already part


@dataclass(slots=True, eq=False)
class Replica:
    """One engine of several that serve the same build. `name` identifies it over restarts and in metrics."""

    name: str
    engine: Engine
    parallel: int
    in_flight: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    cooling_until: float = 0.0
    cooldowns_total: int = 0

    def admits(self, now: float) -> bool:
        return now >= self.cooling_until and self.breaker.admits(now)

    def back_at(self) -> float:
        """When it admits calls again, as far as is known now."""
        if self.breaker.state is BreakerState.CLOSED:
            return self.cooling_until
        return max(self.cooling_until, self.breaker.until)

    def enter(self, now: float) -> None:
        self.in_flight += 1
        self.breaker.let_in(now)

    def cool(self, seconds: float, now: float) -> None:
        self.cooldowns_total += 1
        self.cooling_until = max(self.cooling_until, now + min(seconds, LONGEST_COOLDOWN_SECONDS))

    def says_ready(self) -> bool:
        return self.engine.health().state is EngineState.READY


def replicas_of(model: Model) -> list[Model]:
    """One row for each server of *model*, to make engines from; the row itself when it has only one."""
    further = [model.model_copy(update={"base_url": url, "replicas": ()}) for url in model.replicas]
    return [model.model_copy(update={"replicas": ()}), *further]


def choose(candidates: Sequence[Replica], affinity: str | None, chance: Random) -> Replica:
    """The one of *candidates* to call: the same for the same *affinity* while it is not much busier than the others."""
    if len(candidates) == 1:
        return candidates[0]
    if affinity is None:
        return _less_busy_of_two(candidates, chance)
    average = sum(replica.in_flight for replica in candidates) / len(candidates)
    bound = LOAD_BOUND_SHARE * average + LOAD_BOUND_CALLS
    within = [replica for replica in candidates if replica.in_flight <= bound]  # the least busy always is
    return max(within, key=lambda replica: _weight(affinity, replica.name))


def _less_busy_of_two(candidates: Sequence[Replica], chance: Random) -> Replica:
    """Mitzenmacher, "The power of two choices": nearly as even as the least busy of all, without a herd."""
    one, other = chance.sample(candidates, 2)
    return one if one.in_flight <= other.in_flight else other


def _weight(affinity: str, name: str) -> bytes:
    """Rendezvous hashing: each name draws lots for each affinity, so one that leaves moves only its own."""
    return blake2b(affinity.encode(errors="surrogatepass"), key=blake2b(name.encode()).digest(), digest_size=8).digest()
