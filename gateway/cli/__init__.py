"""The command `pointsman`: one file per group of commands. Knows the terminal; the work is done elsewhere."""

import sys

import typer
from rich.markup import escape

from gateway.cli import budgets, cache, compress, config, import_, keys, ladder, models, prompts, route, router
from gateway.cli.check import check
from gateway.cli.compress.running import CompressFailed
from gateway.cli.doctor import doctor
from gateway.cli.evaluate import EvaluationFailed
from gateway.cli.ladder import LadderFailed
from gateway.cli.probe import ProbeFailed
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.screen import problems
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

app = typer.Typer(
    name="pointsman",
    help="An OpenAI-compatible inference gateway: each prompt goes to the cheapest model that has proved it can answer."
    "\n\nStart with: pointsman serve. "
    "Settings stand in pointsman.yaml or in variables, POINTSMAN_*; the README lists them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.callback()(config.chosen)
app.command()(serve)
app.add_typer(route.app, name="route")
app.add_typer(models.app, name="models")
compress.add_to(models.app)
app.add_typer(keys.app, name="keys")
app.add_typer(budgets.app, name="budgets")
app.add_typer(cache.app, name="cache")
app.command()(check)
app.command()(doctor)
app.add_typer(config.app, name="config")
app.add_typer(import_.app, name="import")
app.add_typer(ladder.app, name="ladder")
app.add_typer(router.app, name="router")
app.add_typer(prompts.app, name="prompts")

# What an operator can mend: shown as one message without a trace.
OPERATOR_ERRORS = (
    SettingsError,
    CatalogError,
    StoreError,
    CompressFailed,
    NoTorch,
    JobFailed,
    CheckpointError,
    DatabaseError,
    KeyNotFound,
    BudgetError,
    LadderFailed,
    EvaluationFailed,
    NoSuchDecision,
    ThroughFailed,
    ProbeFailed,
    PortInUse,
    PromptsFailed,
    GatewayError,
)


def main() -> None:
    """Run the command line; exit status 1 after an operator's error, 130 after Ctrl-C."""
    try:
        app()
    except OPERATOR_ERRORS as error:
        problems.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
