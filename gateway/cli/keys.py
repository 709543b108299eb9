"""pointsman keys: who may call, and what they may do."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.amounts import (
    BudgetDay,
    BudgetMonth,
    Concurrency,
    RequestsPerMinute,
    TokensPerMinute,
    lifetime,
    limits_told,
    shown_limits,
)
from gateway.cli.screen import console, table
from gateway.keys import Grant, Keys, Role, read_pepper
from gateway.ledger.database import open_database
from gateway.settings import load_settings

app = typer.Typer(
    help="Make, list and revoke API keys. A running gateway notices within two seconds.", no_args_is_help=True
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="whose key it is: a person, a team, a service")],
    models: Annotated[str | None, typer.Option(help="models it may use, with commas; all when left out")] = None,
    templates: Annotated[str | None, typer.Option(help="templates it may use, with commas; all when left out")] = None,
    role: Annotated[Role, typer.Option(help="an admin may reach the operator's routes too")] = Role.CLIENT,
    team: Annotated[str | None, typer.Option(help="the team whose budget it draws on too")] = None,
    expires: Annotated[str | None, typer.Option(help="how long it is valid: 90m, 12h or 30d; else for good")] = None,
    budget_day: BudgetDay = None,
    budget_month: BudgetMonth = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
) -> None:
    """Make a key and show it, once: only its keyed digest is kept."""
    limits = limits_told(budget_day, budget_month, requests_per_minute, tokens_per_minute, concurrency)
    expires_at = datetime.now(UTC) + lifetime(expires) if expires else None
    grant = Grant(role, team, _names(models), _names(templates), expires_at, limits)
    key, record = _keys().create(name, grant)
    console.print(f"id    {record.id}\nname  {record.name}\nkey   {key}", highlight=False, markup=False, soft_wrap=True)
    console.print("This key is shown now and never again.", style="yellow")


@app.command("list")
def list_keys() -> None:
    """Show the keys by id and last characters, and what they may do."""
    shown = table("id", "name", "ends in", "made (UTC)", "until (UTC)", "may")
    for record in _keys().list():
        until = f"revoked {record.revoked_at:%Y-%m-%d %H:%M}" if record.revoked_at else _minute(record.grant.expires_at)
        shown.add_row(
            record.id, escape(record.name), record.hint, _minute(record.created_at), until, escape(_may(record.grant))
        )
    console.print(shown)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="the id that `pointsman keys list` shows, key_...")]) -> None:
    """Refuse a key from now on."""
    _keys().revoke(key_id)
    console.print(f"{key_id} is revoked")


def _keys() -> Keys:
    settings = load_settings()
    return Keys(open_database(settings.database), read_pepper(settings.data_dir))


def _names(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(name.strip() for name in text.split(",") if name.strip())


def _may(grant: Grant) -> str:
    """What differs from a key that may use everything without limit."""
    parts = (
        "admin" if grant.role is Role.ADMIN else "",
        f"team {grant.team}" if grant.team else "",
        "" if grant.models is None else f"models {', '.join(sorted(grant.models)) or 'none'}",
        "" if grant.templates is None else f"templates {', '.join(sorted(grant.templates)) or 'none'}",
        shown_limits(grant.limits),
    )
    return "; ".join(filter(None, parts))


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
