"""What the ledger has of each template: how often it is asked, how long its answers are, who gives them at what
cost.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine, func, select

from gateway.ledger.tables import charges
from gateway.library.traffic import SECONDS_PER_DAY, WINDOW_DAYS

NANO_USD = Decimal(10) ** 9


@dataclass(frozen=True, slots=True)
class Asked:
    """A template, or a prompt of the library, as one build answers it. Tokens and `usd` are of a mean answer; `usd` is
    None where a cost is not known.
    """

    template: str
    prompt: str | None
    build: str | None
    calls: int
    per_day: float
    prompt_tokens: float
    completion_tokens: float
    usd: Decimal | None

    @property
    def name(self) -> str:
        return self.prompt or self.template


def asked_of(database: Engine, end: datetime) -> list[Asked]:
    """Of the last weeks before *end*, what costs most first. Days count from a template's first call, one at least."""
    c = charges.c
    wanted = (
        select(
            c.template,
            c.prompt,
            c.build,
            func.count().label("calls"),
            func.min(c.at).label("began"),
            func.avg(c.prompt_tokens).label("prompt_tokens"),
            func.avg(c.completion_tokens).label("completion_tokens"),
            func.sum(c.cost_nano_usd).label("nano_usd"),
            func.count(c.cost_nano_usd).label("priced"),
        )
        .where(c.at >= end - timedelta(days=WINDOW_DAYS), c.template.is_not(None), c.cache.is_(None))
        .where(c.prompt_tokens.is_not(None), c.completion_tokens.is_not(None))
        .group_by(c.template, c.prompt, c.build)
    )
    with database.connect() as connection:
        rows = connection.execute(wanted).all()
    found = []
    for row in rows:
        began = row.began if row.began.tzinfo else row.began.replace(tzinfo=end.tzinfo)
        days = max(1.0, (end - began).total_seconds() / SECONDS_PER_DAY)
        usd = Decimal(row.nano_usd) / NANO_USD / row.calls if row.priced == row.calls else None
        tokens = float(row.prompt_tokens), float(row.completion_tokens)
        found.append(Asked(row.template, row.prompt, row.build, row.calls, row.calls / days, *tokens, usd))
    return sorted(found, key=lambda one: (-(one.usd or 0) * one.calls, one.template))
