"""pointsman prompts list: the prompts of a folder."""

from rich.markup import escape

from gateway.cli.prompts.place import Dir, folder_at, suite_of
from gateway.cli.screen import console, table

LIST_HELP = "Show the prompts of a folder: the texts that they have, how many tests, and what they are for."


def list_command(directory: Dir = None) -> None:
    folder = folder_at(directory)
    shown = table("prompt", "texts", "tests.", "what it is for")
    for prompt_id, prompt in sorted(folder.prompts.items()):
        template = prompt.template
        cases = len(suite_of(folder, prompt).cases) if prompt.tests or prompt.cases else 0
        shown.add_row(prompt_id, ", ".join(("base", *template.variants)), str(cases), escape(template.description))
    console.print(shown)
    console.print(f"{len(folder.prompts)} prompts in {folder.path}", highlight=False, soft_wrap=True)
