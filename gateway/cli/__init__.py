"""The command `pointsman`: one file per group of commands. Knows the terminal; the work is done elsewhere."""

import sys
from importlib import import_module
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from gateway.cli import config
from gateway.cli.check import check
from gateway.cli.doctor import doctor
from gateway.cli.failed import CommandFailed
from gateway.cli.screen import log_problems, problems
from gateway.cli.serve import PortInUse, serve
from gateway.decisions import NoSuchDecision
from gateway.errors import GatewayError
from gateway.keys import KeyNotFound
from gateway.ledger.database import DatabaseError
from gateway.limits.budgets import BudgetError
from gateway.settings import SettingsError
from models.catalog import CatalogError
from models.checkpoint import CheckpointError
from models.job import JobFailed
from models.store import StoreError
from models.torch_python import NoTorch
from router.through import ThroughFailed

# Groups of commands, each the `app` of its module, in the order of `--help`.
GROUPS = {
    "route": "gateway.cli.route",
    "models": "gateway.cli.compress",  # its commands beside those of gateway.cli.models
    "keys": "gateway.cli.keys",
    "budgets": "gateway.cli.budgets",
    "cache": "gateway.cli.cache",
    "config": "gateway.cli.config",
    "import": "gateway.cli.import_",
    "ladder": "gateway.cli.ladder",
    "router": "gateway.cli.router",
    "prompts": "gateway.cli.prompts",
}


class Grouped(TyperGroup):
    """Loads a group once it is asked for: `serve` starts without what it takes to measure models or write prompts."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *(name for name in GROUPS if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:  # a name that there is not is compared with all
            for name in (cmd_name,) if cmd_name in GROUPS else GROUPS:
                self._load(name)
        return super().get_command(ctx, cmd_name)

    def _load(self, name: str) -> None:
        group = typer.main.get_group(import_module(GROUPS[name]).app)
        group.name = name
        self.add_command(group, name)


app = typer.Typer(
    name="pointsman",
    cls=Grouped,
    help="An OpenAI-compatible inference gateway: each prompt goes to the cheapest model that has proved it can answer."
    "\n\nStart with: pointsman serve. "
    "Settings stand in pointsman.yaml or in variables, POINTSMAN_*; the README lists them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.callback()(config.chosen)
app.command()(serve)
app.command()(check)
app.command()(doctor)

# What an operator can mend: shown as one message without a trace.
OPERATOR_ERRORS = (
    SettingsError,
    CatalogError,
    StoreError,
    NoTorch,
    JobFailed,
    CheckpointError,
    DatabaseError,
    KeyNotFound,
    BudgetError,
    NoSuchDecision,
    ThroughFailed,
    PortInUse,
    CommandFailed,
    GatewayError,
)


def main() -> None:
    """Run the command line; exit status 1 after an operator's error, 130 after Ctrl-C."""
    log_problems()
    try:
        app()
    except OPERATOR_ERRORS as error:
        problems.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
