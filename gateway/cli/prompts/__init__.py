"""pointsman prompts: a folder of prompts, written, looked at, tested on real models and published. One file a command.

What a command does is done elsewhere (`prompts`, `router.gate`, `gateway.library`); here it is asked for and shown.
"""

import typer

from gateway.cli.prompts.canary import CANARY_HELP, canary
from gateway.cli.prompts.diff import DIFF_HELP, diff_command
from gateway.cli.prompts.downshift import downshift
from gateway.cli.prompts.exchange import EXPORT_HELP, IMPORT_HELP, export_command, import_command
from gateway.cli.prompts.generate import generate
from gateway.cli.prompts.labels import (
    HISTORY_HELP,
    PROMOTE_HELP,
    ROLLBACK_HELP,
    STATUS_HELP,
    history,
    promote,
    rollback,
    status,
)
from gateway.cli.prompts.lint import LINT_HELP, lint_command
from gateway.cli.prompts.listing import LIST_HELP, list_command
from gateway.cli.prompts.optimise import optimise
from gateway.cli.prompts.render import RENDER_HELP, render_command
from gateway.cli.prompts.sides import PULL_HELP, PUSH_HELP, pull, push
from gateway.cli.prompts.start import init, new
from gateway.cli.prompts.testing import TEST_HELP, examine_prompts
from gateway.cli.screen import prose

app = typer.Typer(
    help="Write prompts as files, look at them, test them on real models, and publish what has passed.\n\n"
    "Start with: pointsman prompts init prompts. Then lint, render and test; test --mock and lint need no model.",
    no_args_is_help=True,
)
app.command()(init)
app.command()(new)
app.command("list", help=prose(LIST_HELP))(list_command)
app.command("lint", help=prose(LINT_HELP))(lint_command)
app.command("render", help=prose(RENDER_HELP))(render_command)
app.command("diff", help=prose(DIFF_HELP))(diff_command)
app.command("test", help=prose(TEST_HELP))(examine_prompts)
app.command(help=prose(PUSH_HELP))(push)
app.command(help=prose(PULL_HELP))(pull)
app.command(help=prose(STATUS_HELP))(status)
app.command(help=prose(PROMOTE_HELP))(promote)
app.command(help=prose(ROLLBACK_HELP))(rollback)
app.command(help=prose(CANARY_HELP))(canary)
app.command(help=prose(HISTORY_HELP))(history)
app.command("import", help=prose(IMPORT_HELP))(import_command)
app.command("export", help=prose(EXPORT_HELP))(export_command)
app.command()(generate)
app.command()(optimise)
app.command()(downshift)
