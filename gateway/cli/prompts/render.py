"""pointsman prompts render: what a prompt says to a model, with these variables. Calls no model."""

from typing import Annotated

import orjson
import typer
from rich.markup import escape

from gateway.cli.prompts.place import Dir, PromptId, case_of, folder_at, prompt_in, suite_of, told
from gateway.cli.prompts.variables import Var, Vars, variables
from gateway.cli.screen import console, print_json
from prompts.message import text_of
from prompts.render import render

RENDER_HELP = """Show the messages that a model would be sent. No model is called.

Variables are checked as the gateway checks them. Example:
pointsman prompts render support/triage --var ticket="Where is my parcel?" --tier small
"""


def render_command(
    prompt_id: PromptId,
    var: Var = None,
    vars_file: Vars = None,
    case: Annotated[str | None, typer.Option(help="take the variables and messages of this case of its suite")] = None,
    tier: Annotated[str | None, typer.Option(help="the tier whose text it is; the base when left out")] = None,
    directory: Dir = None,
    json: Annotated[bool, typer.Option("--json", help="print the request as JSON, with parameters")] = False,
) -> None:
    folder = folder_at(directory)
    prompt = prompt_in(folder, prompt_id)
    values, messages = variables(var, vars_file), []
    if case is not None:
        one = case_of(suite_of(folder, prompt), case)
        values, messages = {**one.vars, **values}, list(one.messages)
    with told():
        said = render(prompt.template, tier, values, messages)
    if json:
        print_json(said.over({}))
        return
    for message in said.messages:
        console.print(f"[bold]{message['role']}[/]")
        console.print(escape(text_of(message)), highlight=False, soft_wrap=True)
        console.print()
    parameters = {name: value for name, value in said.over({}).items() if name != "messages"}
    shown = orjson.dumps(parameters).decode()
    console.print(f"[dim]text for {said.variant}; {escape(shown)}[/]", highlight=False, soft_wrap=True)
