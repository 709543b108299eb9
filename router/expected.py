"""What a request is expected to take of one model, and what that costs. Who expects it is not known here."""

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from models.catalog import Model


class Expected(NamedTuple):  # a dataclass takes three times as long to make; a decision makes one for each model
    """`cached_tokens`, of the prompt's: those that the model's prompt cache has, on average over the requests that
    begin alike. `wait_seconds`: for a place, and `wait_usd` what the operator says that is worth.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    wait_seconds: float = 0.0
    wait_usd: Decimal = Decimal(0)

    @property
    def cached_share(self) -> float:
        """Of the prompt, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def cost_usd(self, model: Model) -> Decimal | None:
        """Tokens and waiting; None when the model's price is not known."""
        usd = model.expected_cost_usd(self, warm=True)
        return usd if usd is None or not self.wait_usd else usd + self.wait_usd


Expect = Callable[[Model], Expected]
TYPICAL = Expected(prompt_tokens=400, completion_tokens=100)  # where no request is at hand; only the ratio matters
