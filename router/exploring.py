"""Which requests are also sent to a cheaper model, so that it can earn trust, and to which. Pure.

Drawn by the request's id, before any answer is there: were it drawn by what an answer says, its outcomes would be
those that somebody picked, and no bound would hold for them (`router.record`).
"""

from collections.abc import Sequence
from zlib import crc32

from models.catalog import Model
from router.bar import Verdict
from router.decision import Knowledge

CHANCES = 1 << 32  # that a request's number may be
OPEN = (Verdict.UNKNOWN, Verdict.SUSPENDED)


def number_of(request_id: str) -> int:
    """From 0 to CHANCES, each as likely: an id is random, and nobody outside can choose it."""
    return crc32(request_id.encode())


def is_drawn(number: int, share: float) -> bool:
    """*share* of all requests, 0 to 1."""
    return number < share * CHANCES


def undecided(template: str, models: Sequence[Model], knowledge: Knowledge) -> list[Model]:
    """Those of *models* under the safe tier of which nobody knows whether they hold the bar on *template*, but for
    those that agreed with the safe tier too seldom to prove it by agreement.
    """
    bar = knowledge.bar
    wanted = bar.pass_rate if bar.pass_rate is not None else -(bar.margin or 0)
    cheaper = {model.name for model in knowledge.models[:-1]}  # not by build, which the safe tier may share
    found = []
    for model in models:
        shown = knowledge.about(template, model.build)
        if model.name in cheaper and (shown is None or (shown.verdict in OPEN and shown.upper >= wanted)):
            found.append(model)
    return found


def choose(models: Sequence[Model], number: int, share: float) -> Model:
    """One of *models* for a drawn request: all get as many, whatever the answers are like."""
    drawn = max(1, int(share * CHANCES))
    return models[number * len(models) // drawn % len(models)]
