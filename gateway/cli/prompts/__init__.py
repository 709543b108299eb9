"""pointsman prompts: drafts and better drafts, by the models of the catalogue."""

import typer

from gateway.cli.prompts.downshift import downshift
from gateway.cli.prompts.generate import generate
from gateway.cli.prompts.optimise import optimise

app = typer.Typer(help="Draft prompts, improve them for a tier, move them to a cheaper one.", no_args_is_help=True)
app.command()(generate)
app.command()(optimise)
app.command()(downshift)
