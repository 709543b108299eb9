"""A request's prompt once it is rendered: what each model is told, and what the prompt wishes of the router. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.wishes import CHEAPEST, Wishes
from prompts.library import Version
from router.bar import Bar

if TYPE_CHECKING:
    from gateway.schema import Asked


@dataclass(frozen=True, slots=True)
class Prompted:
    """`variants`: which of the version's texts is said to a model, by the models that it may be sent to, the cheapest
    first. `tellings`: the request with that text, by variant.
    """

    version: Version
    variants: Mapping[str, str]
    tellings: Mapping[str, "Asked"]

    @property
    def key(self) -> str:
        """What evidence on this version is known by."""
        return self.version.template.key

    def telling(self, model: str) -> "Asked":
        return self.tellings[self.variants[model]]

    @property
    def dearest(self) -> "Asked":
        """The request as the dearest of the models is told it."""
        return self.telling([*self.variants][-1])

    def wishes(self, caller: Wishes, own: Bar) -> Wishes:
        """The *caller*'s wishes over the prompt's. A bar of the prompt's is the least that holds; *own*, the
        operator's, gives way to it. Where that is a margin, a share of answers cannot be held against it: the margin
        stays, and the prompt's bar is what its receipts are held to.
        """
        routing = self.version.template.routing
        hold = routing.hold if caller.hold is None else caller.hold
        if routing.bar is None or own.pass_rate is None:
            return replace(caller, hold=hold)
        bar = Bar(own.confidence, pass_rate=routing.bar)
        if caller.bar is not None and bar.asks_no_more_than(caller.bar):
            bar = caller.bar
        return replace(caller, hold=hold, bar=bar, end=None if caller.end == CHEAPEST else caller.end)
