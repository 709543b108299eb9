"""pointsman budgets: how much callers, teams and templates may use."""

from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy import Engine

from gateway.cli.amounts import (
    BudgetDay,
    BudgetMonth,
    Concurrency,
    RequestsPerMinute,
    TokensPerMinute,
    limits_told,
    shown_limits,
)
from gateway.cli.screen import console, table
from gateway.ledger.database import open_database
from gateway.limits.budgets import Scope, read_budgets, remove_budget, set_budget
from gateway.settings import load_settings

app = typer.Typer(
    help="Set, list and remove limits. A running gateway notices within two seconds.", no_args_is_help=True
)

ScopeArgument = Annotated[Scope, typer.Argument(help="whose limits they are")]
NameArgument = Annotated[str, typer.Argument(help="the key's id, the team's name or the template's key")]


@app.command("set")
def set_limits(
    scope: ScopeArgument,
    name: NameArgument,
    budget_day: BudgetDay = None,
    budget_month: BudgetMonth = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
) -> None:
    """Replace the limits of a caller, a team or a template; what is left out is not limited."""
    limits = limits_told(budget_day, budget_month, requests_per_minute, tokens_per_minute, concurrency)
    set_budget(_database(), scope, name, limits)
    console.print(f"{scope.value} {name}: {shown_limits(limits)}", highlight=False, markup=False)


@app.command("list")
def list_limits() -> None:
    """Show everybody's limits."""
    shown = table("name", "scope", "limits")
    with _database().connect() as connection:
        for (scope, name), limits in read_budgets(connection).items():
            shown.add_row(escape(name), scope.value, shown_limits(limits))
    console.print(shown)


@app.command()
def remove(scope: ScopeArgument, name: NameArgument) -> None:
    """Lift all limits of a caller, a team or a template."""
    remove_budget(_database(), scope, name)
    console.print(f"{scope.value} {name} has no limits now", highlight=False, markup=False)


def _database() -> Engine:
    return open_database(load_settings().database)
