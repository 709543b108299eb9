"""Who may use how much: the limits of callers, teams and templates, in the table `budgets`. Counts nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Connection, Engine, and_, delete, insert, select

from gateway.ledger.charge import NANO
from gateway.ledger.tables import budgets

BUDGET_LIMIT_USD = 1_000_000  # Redis counts in doubles, which are exact to nine million dollars in nano-dollars
COUNT_LIMIT = 1_000_000_000  # a minute; 60,000 times as many still fit a double
NAME_LIMIT_CHARACTERS = 128


class BudgetError(ValueError):
    """A budget that cannot be; the message says what to change."""


class Scope(StrEnum):
    """Whose limit it is."""

    CALLER = "caller"  # by the id of the key
    TEAM = "team"
    TEMPLATE = "template"


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit. Days and months are of the calendar in UTC; `concurrency` are answers made at once."""

    day_nano_usd: int | None = None
    month_nano_usd: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    def __bool__(self) -> bool:
        """True when there is any limit."""
        return self != NO_LIMITS


NO_LIMITS = Limits()
Budgets = Mapping[tuple[Scope, str], Limits]


def limits_of(
    *,
    day_usd: Decimal | None = None,
    month_usd: Decimal | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrency: int | None = None,
) -> Limits:
    """Raises BudgetError for a negative amount, one too large to be counted, or a fraction of a nano-dollar."""
    counts = {
        "requests a minute": requests_per_minute,
        "tokens a minute": tokens_per_minute,
        "answers at once": concurrency,
    }
    for name, count in counts.items():
        if count is not None and not 1 <= count <= COUNT_LIMIT:
            raise BudgetError(f"{name}: {count} is not between 1 and {COUNT_LIMIT}; leave it out for no limit")
    return Limits(_cap(day_usd), _cap(month_usd), requests_per_minute, tokens_per_minute, concurrency)


def _cap(usd: Decimal | None) -> int | None:
    if usd is None:
        return None
    if not usd.is_finite() or not 0 <= usd <= BUDGET_LIMIT_USD:
        raise BudgetError(f"a budget of {usd} USD is not between 0 and {BUDGET_LIMIT_USD}; leave it out for no limit")
    if usd * NANO % 1:
        raise BudgetError(f"a budget of {usd} USD is finer than a billionth of a dollar")
    return int(usd * NANO)


def read_budgets(connection: Connection) -> Budgets:
    rows = connection.execute(select(budgets).order_by(budgets.c.scope, budgets.c.name))
    return {(Scope(scope), name): Limits(*caps) for scope, name, *caps in rows}


def write_budget(connection: Connection, scope: Scope, name: str, limits: Limits) -> None:
    """Replace what was there; nothing stays when *limits* has none. Raises BudgetError for a name too long."""
    if not 0 < len(name) <= NAME_LIMIT_CHARACTERS:
        raise BudgetError(f"the name of a {scope} has 1 to {NAME_LIMIT_CHARACTERS} characters, not {len(name)}")
    connection.execute(delete(budgets).where(_is(scope, name)))
    if limits:
        connection.execute(insert(budgets).values(scope=scope.value, name=name, **asdict(limits)))


def set_budget(database: Engine, scope: Scope, name: str, limits: Limits) -> None:
    """A running gateway notices when it reads its keys again."""
    if not limits:
        raise BudgetError("a budget needs at least one limit; see: pointsman budgets set --help")
    with database.begin() as connection:
        write_budget(connection, scope, name, limits)


def remove_budget(database: Engine, scope: Scope, name: str) -> None:
    """Raises BudgetError when there is none."""
    with database.begin() as connection:
        found = connection.execute(delete(budgets).where(_is(scope, name))).rowcount
    if not found:
        raise BudgetError(f"the {scope} {name} has no budget; see: pointsman budgets list")


def _is(scope: Scope, name: str):  # type: ignore[no-untyped-def]  # SQLAlchemy's own expression
    return and_(budgets.c.scope == scope.value, budgets.c.name == name)
