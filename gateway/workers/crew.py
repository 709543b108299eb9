"""What a process has to know to be one of several that serve the same gateway. Plain arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.limits.claim import LimitStore
from gateway.reload import Reloads
from gateway.workers.counts import Counts
from models.catalog import Model


@dataclass(frozen=True, slots=True)
class Crew:
    """This process is number `place` of `size`. `reloads`: who reads the settings anew; None: this process itself.

    `limits`: those of all processes; None where the settings say which.
    """

    place: int = 0
    size: int = 1
    counts: Counts | None = None
    reloads: Callable[[], Reloads] | None = None
    limits: LimitStore | None = None

    @property
    def first(self) -> bool:
        """It does what only one of them should."""
        return self.place == 0

    def row(self, model: Model) -> Model:
        """*model* with our share of its places and of its queue, so that together they come to what the row says.

        At least one place each: with more processes than places they come to more.
        """
        if self.size == 1:
            return model
        return model.model_copy(
            update={"parallel": max(1, self._share(model.parallel)), "queue": self._share(model.queue)}
        )

    def _share(self, amount: int) -> int:
        return amount // self.size + (self.place < amount % self.size)


ALONE = Crew()
