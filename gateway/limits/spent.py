"""What the ledger says has been spent of the windows of now: where counting starts. Reads; counts nothing itself."""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from gateway.ledger.charge import SHADOW
from gateway.ledger.tables import charges, keys
from gateway.limits.budgets import Scope
from gateway.limits.window import DAY, MONTH


def spent(database: Engine, now: datetime) -> dict[str, int]:
    """Nano-dollars charged in the day and the month (UTC) of *now*, by the keys of their windows.

    A team's are the charges of the keys that are in it now. Shadows are their own caller's, and not their template's. A
    charge whose cost is not known is not in it: its worst case was counted while the gateway ran, and the ledger has no
    number for it.
    """
    holders: dict[Scope, ColumnElement[str]] = {
        Scope.CALLER: charges.c.caller,
        Scope.TEAM: keys.c.team,
        Scope.TEMPLATE: charges.c.template,
    }
    now = now.astimezone(UTC)
    with database.connect() as connection:
        return {
            period.key(scope, name, now): amount
            for period in (DAY, MONTH)
            for scope, holder in holders.items()
            for name, amount in _sums(connection, holder, period.start(now), shadows=scope is not Scope.TEMPLATE)
        }


def _sums(
    connection: Connection, holder: ColumnElement[str], since: datetime, *, shadows: bool
) -> list[tuple[str, int]]:
    joined = charges.outerjoin(keys, charges.c.caller == keys.c.id)
    total = func.sum(charges.c.cost_nano_usd)
    statement = select(holder, total).select_from(joined).where(charges.c.at >= since).group_by(holder)
    if not shadows:
        statement = statement.where(charges.c.operation.is_distinct_from(SHADOW))
    return [(name, int(amount)) for name, amount in connection.execute(statement) if name is not None and amount]
