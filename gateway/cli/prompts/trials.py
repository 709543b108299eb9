"""A canary in one line: what it takes of whose requests, how far it has come, and why."""

from rich.markup import escape

from gateway.cli.screen import console
from gateway.library.records import Trial
from router.canary import Stage

STYLES = {Stage.BACK: "bold red", Stage.WIDENING: "green"}


def say(trial: Trial) -> None:
    canary = trial.canary
    style = STYLES.get(canary.stage, "bold")
    lead = f"{trial.prompt}: {trial.label} tries version {trial.number} on {trial.tier}, [{style}]{canary.stage}[/]"
    console.print(f"{lead} {_progress(trial)}", highlight=False, soft_wrap=True)


def _progress(trial: Trial) -> str:
    canary = trial.canary
    if not trial.runs:
        return f"({escape(canary.why)})"
    step, tally = canary.steps[canary.place], canary.tally
    counted = f"{tally.passed} of {tally.total} outcomes passed, {step.outcomes} are waited for"
    return f"with {canary.share:.0%} of its requests: {counted} ({escape(canary.why)})"
