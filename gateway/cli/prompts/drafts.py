"""From a draft to a canary: it becomes a version, all of its suite is run on every tier that it may be sent to, and if
the gate opens it is tried.

The gate leaves out the cases that the draft was made from, there as before. What proves more is the canary.
"""

import asyncio

from gateway.cli.prompts.answers import answers_path, kept_answers
from gateway.cli.prompts.asking import models_here
from gateway.cli.prompts.canary import begin
from gateway.cli.prompts.examining import Tested, jobs_of, run
from gateway.cli.prompts.improving import Subject
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.published import library_store, operator
from gateway.cli.prompts.receipts import keep_receipt
from gateway.cli.prompts.tiers import Target, lineup_of, targets_of
from gateway.cli.screen import console, count_bar
from gateway.settings import Settings
from prompts.promptfile import Policy
from prompts.suite import Suite
from prompts.template import Template


def check_published(settings: Settings, about: Subject, label: str) -> None:
    """Before anything is spent. Raises PromptsFailed where *label* has nothing that a draft could be tried beside."""
    name = about.template.id
    with library_store(settings) as store:
        if label not in store.library().labels.get(name, {}):
            raise PromptsFailed(f"{name} has no {label} yet: pointsman prompts push, test and promote it first")
        if store.suite(name) != about.suite:
            raise PromptsFailed(
                f"the database has another suite of {name} than its files: pointsman prompts push first"
            )


def try_draft(settings: Settings, about: Subject, draft: Template, label: str, tier: str, role: str | None) -> None:
    """Raises PromptsFailed where the gate stays shut; the version is saved all the same, and serves nobody."""
    with library_store(settings) as store:
        library, author = store.library(), operator(role).name
        says = f"downshift to {tier}"
        parent = library.labels[draft.id][label]
        version = store.save(draft, origin="optimised", author=author, message=says, parent=parent)
        console.print(f"\nSaved as {version.name}; its whole suite is run.", highlight=False)
        for one in asyncio.run(_tested(settings, library.policy, draft, about.suite)):
            keep_receipt(settings, one.receipt)
            store.add_receipt(draft.id, one.receipt, author=author)
        begin(store, settings, version, label, tier, [], role, says)


async def _tested(settings: Settings, policy: Policy, template: Template, suite: Suite) -> list[Tested]:
    """On every tier that it may be sent to; what was answered before is not asked again."""
    lineup = lineup_of(settings)
    targets = targets_of(lineup, settings, policy)
    async with models_here(settings, lineup) as models:
        jobs = jobs_of([(template, suite)], models, policy, targets)
        with kept_answers(answers_path(settings.data_dir)) as kept, count_bar() as bar:
            tasks = {target: bar.add_task(target.tier, total=len(suite.cases)) for target in jobs[0].targets}

            def progress(target: Target, prompt_id: str, more: int) -> None:
                bar.update(tasks[target], advance=more)

            return await run(jobs, models, settings, policy, kept, progress)
