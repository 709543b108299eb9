"""A running mean in which old values fade. Plain arithmetic."""

from dataclasses import dataclass

MEMORY = 50  # values: enough that one odd one says little, and few enough to follow an afternoon


@dataclass(slots=True)
class Mean:
    """The plain mean of the first MEMORY values; each later one takes the share of one in so many."""

    value: float = 0.0
    count: int = 0  # up to MEMORY

    def take(self, value: float) -> None:
        if self.count < MEMORY:
            self.count += 1
        self.value += (value - self.value) / self.count
