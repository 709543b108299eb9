"""pointsman keys: who may call."""

from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.screen import console, table
from gateway.keys import Keys, read_pepper
from gateway.ledger.database import open_database
from gateway.settings import load_settings

app = typer.Typer(
    help="Make, list and revoke API keys. A running gateway notices within two seconds.", no_args_is_help=True
)


@app.command()
def create(name: Annotated[str, typer.Argument(help="whose key it is: a person, a team, a service")]) -> None:
    """Make a key and show it, once: only its keyed digest is kept."""
    key, record = _keys().create(name)
    console.print(f"id    {record.id}\nname  {record.name}\nkey   {key}", highlight=False, markup=False, soft_wrap=True)
    console.print("This key is shown now and never again.", style="yellow")


@app.command("list")
def list_keys() -> None:
    """Show the keys by id and last characters."""
    shown = table("id", "name", "ends in", "made (UTC)", "revoked (UTC)")
    for record in _keys().list():
        revoked = f"{record.revoked_at:%Y-%m-%d %H:%M}" if record.revoked_at else ""
        shown.add_row(record.id, escape(record.name), record.hint, f"{record.created_at:%Y-%m-%d %H:%M}", revoked)
    console.print(shown)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="the id that `pointsman keys list` shows, key_...")]) -> None:
    """Refuse a key from now on."""
    _keys().revoke(key_id)
    console.print(f"{key_id} is revoked")


def _keys() -> Keys:
    settings = load_settings()
    return Keys(open_database(settings.database), read_pepper(settings.data_dir))
