"""Which requests of a label go to its canary: drawn by a number of their own, before anybody has answered."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.library.shares import Key, Share
from gateway.prompting.naming import Naming
from gateway.schema import target_of
from gateway.wishes import CHOOSING
from models.catalog import AUTO
from router.decision import Mode
from router.exploring import number_of

if TYPE_CHECKING:
    from gateway.held import Held

# Shadows are drawn by the request's id itself: by the same number the one would have the requests that the other has.
DRAWN_AS = "canary"


def drawn(held: "Held", naming: Naming, shares: Mapping[Key, Share]) -> Share | None:
    """That of *shares* which takes the request; None for most, and for whoever chooses a version or a model. Raises
    ModelNotFound.
    """
    label = naming.reference.label
    share = None if label is None else shares.get((naming.reference.id, label))
    if share is None or not share.takes(number_of(f"{held.request_id} {DRAWN_AS}")):
        return None
    runtime = held.runtime
    if naming.model not in (None, "") and target_of(naming.model, runtime.catalog) != AUTO:
        return None
    if not CHOOSING.isdisjoint(held.headers):
        return None
    return share if runtime.knowledge.mode_of(share.version.template.key) is Mode.APPLY else None
