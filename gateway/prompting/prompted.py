"""A request's prompt once it is rendered: what each model is told, and what the prompt wishes of the router. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.library.shares import Share
from gateway.wishes import CHEAPEST, Wishes
from prompts.library import Version
from router.bar import Bar

if TYPE_CHECKING:
    from gateway.schema import Asked


@dataclass(frozen=True, slots=True)
class Prompted:
    """`variants`: which of the version's texts is said to a model, by the models that it may be sent to, the cheapest
    first. `tellings`: the request with that text, by variant. `share`: of the canary that the request is drawn for.
    """

    version: Version
    variants: Mapping[str, str]
    tellings: Mapping[str, "Asked"]
    share: Share | None = None

    @property
    def key(self) -> str:
        """What evidence on this version is known by."""
        return self.version.template.key

    def telling(self, model: str) -> "Asked":
        return self.tellings[self.variants[model]]

    def on_trial(self, able: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
        """Where a request goes that is drawn for a canary, of the models that are *able*, the cheapest first: to the
        tier that is tried, then to dearer ones; and why. None for any other, and where nobody on that tier is able.
        """
        share = self.share
        if share is None or not (places := [place for place, name in enumerate(able) if name in share.models]):
            return None
        return tuple(able[places[0] :]), share.says

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
