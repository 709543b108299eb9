"""pointsman prompts test: suites on real models, the figures of each tier, and the receipts that versions earn."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from gateway.cli.prompts import measured
from gateway.cli.prompts.answers import answers_path, kept_answers
from gateway.cli.prompts.asking import Models, models_at, models_here
from gateway.cli.prompts.examining import Tested, as_before, held, jobs_of, mock, run
from gateway.cli.prompts.place import Dir, PromptsFailed, case_of, folder_at, prompt_in, suite_of
from gateway.cli.prompts.published import is_there, library_store
from gateway.cli.prompts.receipts import keep_receipt, kept_receipts
from gateway.cli.prompts.shown import document, show
from gateway.cli.prompts.sides import take_receipts
from gateway.cli.prompts.tiers import Target, chosen, lineup_of, targets_of
from gateway.cli.screen import console, count_bar
from gateway.settings import Settings, load_settings
from prompts.folder import Folder
from prompts.suite import Suite
from prompts.template import BASE, Template
from router.gate import Gate

TEST_HELP = """Run a prompt's tests on real models, and show for each tier how many pass and what that proves.

The models are started here, one after the other, and stopped again; with --url a running gateway is asked instead, by
model name. Every answer is kept in the data directory: stop it when you like, the same command goes on where it
stopped, and what did not change is not asked again (--again asks anew). A whole run leaves a receipt: what promote
goes by. Exit status 1 where a bar does not hold.

"passed" counts cases. "interval" is Wilson's. "proven" is the exact bound that the gate holds against the bar: so
few cases prove less than their rate. With --mock no model is needed: every case is rendered, every assertion read, and
nothing is said of quality. That fits a CI job.

Examples:

pointsman prompts test support/triage --tiers small

pointsman prompts test --all --table README.md
"""


SHOWN_RECEIPTS = 4


def examine_prompts(
    prompt_id: Annotated[str | None, typer.Argument(help="the prompt: support/triage", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every prompt of the folder that has tests")] = False,
    tiers: Annotated[str | None, typer.Option(help="only these tiers, with commas: small,large")] = None,
    directory: Dir = None,
    is_mock: Annotated[
        bool, typer.Option("--mock", help="ask no model: render every case, read every assertion")
    ] = False,
    case: Annotated[str | None, typer.Option(help="only this case, by its id; leaves no receipt")] = None,
    failures: Annotated[int, typer.Option(min=0, help="show so many failing cases of each tier")] = 3,
    json: Annotated[Path | None, typer.Option("--json", help="write every figure here", metavar="OUT")] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="write the table between two marker lines of this file; then 0 unless it failed to run"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="ask anew what was answered before")] = False,
    url: Annotated[str | None, typer.Option(help="ask the gateway that runs there: http://127.0.0.1:8080")] = None,
    key: Annotated[str | None, typer.Option(help="its API key; else that in the variable POINTSMAN_KEY")] = None,
) -> None:
    if (prompt_id is None) != everything:
        raise PromptsFailed(
            "name one prompt, or write --all for every one of the folder; pointsman prompts list shows them"
        )
    folder = folder_at(directory)
    suites = _suites(folder, prompt_id)
    if case is not None:
        if prompt_id is None:
            raise PromptsFailed("--case is for one prompt; name it")
        suites = [(template, Suite((case_of(suite, case),), suite.bars)) for template, suite in suites]
    if is_mock:
        raise typer.Exit(_mock(folder, suites))
    if json is not None and not json.resolve().parent.is_dir():
        raise PromptsFailed(f"{json} cannot be written: there is no folder {json.resolve().parent}; make it first")
    if table is not None:
        measured.check_place(table)
    settings = load_settings()
    tested, gates = asyncio.run(
        _test(settings, folder, suites, tiers, again, url, key or os.environ.get("POINTSMAN_KEY"))
    )
    by_prompt = {template.id: [one for one in tested if one.job.template.id == template.id] for template, _ in suites}
    for name, of_prompt in by_prompt.items():
        if of_prompt:
            show(of_prompt, gates[name], settings.confidence, failures)
    if case is None:
        _keep(settings, tested)
    if json is not None:
        json.write_bytes(orjson.dumps(document(tested, list(gates.values())), option=orjson.OPT_INDENT_2) + b"\n")
    if table is not None:
        measured.put(table, measured.table(tested, gates))
        return
    if case is not None:
        raise typer.Exit(0 if all(one.receipt.count.passed for one in tested) else 1)
    raise typer.Exit(0 if all(gate.opens for gate in gates.values()) else 1)


def _suites(folder: Folder, prompt_id: str | None) -> list[tuple[Template, Suite]]:
    prompts = [prompt_in(folder, prompt_id)] if prompt_id else list(folder.prompts.values())
    having = [prompt for prompt in prompts if prompt.tests or prompt.cases or prompt_id]
    if not having:
        raise PromptsFailed(f"no prompt in {folder.path} has tests; write tests.yaml beside one")
    return [(prompt.template, suite_of(folder, prompt)) for prompt in having]


def _mock(folder: Folder, suites: Sequence[tuple[Template, Suite]]) -> int:
    """The exit status."""
    failed = 0
    for template, suite in suites:
        variants = (BASE, *template.variants)
        for variant, case, why in mock(template, suite, variants):
            failed += 1
            console.print(
                f"[bold red]error[/] {escape(f'{template.id} ({variant}), case {case.id}: {why}')}",
                highlight=False,
                soft_wrap=True,
            )
        assertions = sum(len(case.assertions) for case in suite.cases)
        says = f"{len(suite.cases)} cases, {assertions} assertions, rendered for {', '.join(variants)}"
        console.print(f"{template.id}: {says}", highlight=False, soft_wrap=True)
    console.print("No model was asked: this says nothing of how good the answers are.", style="dim")
    return 1 if failed else 0


async def _test(
    settings: Settings,
    folder: Folder,
    suites: Sequence[tuple[Template, Suite]],
    tiers: str | None,
    again: bool,
    url: str | None,
    key: str | None,
) -> tuple[list[Tested], dict[str, Gate]]:
    """What came of every prompt on every tier, and the gate of each prompt."""
    async with _models(settings, url, key) as models:
        targets = chosen(targets_of(models.lineup, settings, folder.policy), tiers)
        jobs = jobs_of(suites, models, folder.policy, targets)
        for job in jobs:
            if not job.targets:
                says = "may be sent to none of these tiers; see its routing.tiers and model"
                raise PromptsFailed(f"{job.template.id} {says}")
        with kept_answers(answers_path(settings.data_dir), again) as kept, count_bar() as bar:
            totals = {t: sum(len(job.suite.cases) for job in jobs if t in job.targets) for t in targets}
            tasks = {t: bar.add_task(t.tier, total=total, start=False) for t, total in totals.items() if total}

            def progress(target: Target, prompt_id: str, more: int) -> None:
                bar.start_task(tasks[target])
                bar.update(tasks[target], advance=more, description=f"{target.tier} {prompt_id}")

            tested = await run(jobs, models, settings, folder.policy, kept, progress)
        earlier = list(kept_receipts(settings))
        tested = [as_before(one, earlier) for one in tested]
        gates = {}
        for job in jobs:
            of_job = [one for one in tested if one.job is job]
            gates[job.template.id] = held(job, of_job, models, folder.policy, earlier)
        return tested, gates


def _models(settings: Settings, url: str | None, key: str | None) -> AbstractAsyncContextManager[Models]:
    lineup = lineup_of(settings)
    return models_here(settings, lineup) if url is None else models_at(url, key, settings, lineup)


def _keep(settings: Settings, tested: Sequence[Tested]) -> None:
    """As files, and in the database where that has the version."""
    for one in tested:
        keep_receipt(settings, one.receipt)
    if is_there(settings):
        with library_store(settings) as store:
            take_receipts(settings, store)
    ids = [one.receipt.id for one in tested]
    more = f" and {len(ids) - SHOWN_RECEIPTS} more" if len(ids) > SHOWN_RECEIPTS else ""
    console.print(f"\nreceipts: {', '.join(ids[:SHOWN_RECEIPTS])}{more}", highlight=False, soft_wrap=True)
