"""What `optimise` and `downshift` have in common: a prompt of a folder, a search, and the table of held-out cases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from gateway.cli.prompts.answers import answers_path, kept_answers
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.ready import Asked
from gateway.cli.screen import count_bar, table
from gateway.settings import Settings
from prompts.canonical import digest
from prompts.examination import Examination, Kept, examine
from prompts.folder import Prompt, load
from prompts.optimise.bench import Bench, Cases, TooFewCases, Trial
from prompts.optimise.budget import Budget, Purse
from prompts.optimise.candidate import asked_with
from prompts.optimise.guard import Guard
from prompts.optimise.search import Found, search
from prompts.reading import LoadRefused
from prompts.receipt import Binding, Receipt
from prompts.render import render
from prompts.suite import Bars, Case, Split, Suite
from prompts.suite_file import SuiteError, load_suite
from prompts.template import Template
from router.bar import Tally, Verdict, parse_bar
from router.bounds import wilson_interval
from router.gate import EVERY, cases_needed

CALLS = 1000  # what costs are told for


@dataclass(frozen=True, slots=True)
class Subject:
    """A prompt with its suite. `tiers`: the library's names."""

    prompt: Prompt
    suite: Suite
    cases: Cases
    tiers: tuple[str, ...]

    @property
    def template(self) -> Template:
        return self.prompt.template

    @property
    def held_out(self) -> Suite:
        return self.suite.only(Split.HELD_OUT)

    @property
    def bars(self) -> Bars:
        """The suite's; where it has no default the template's own."""
        bar = self.template.routing.bar
        return self.suite.bars if self.suite.bars.default or bar is None else replace(self.suite.bars, default=f"{bar}")


@dataclass(frozen=True, slots=True)
class Measured:
    """One text on one tier, on the held-out cases."""

    text: str
    tier: str
    model: str
    template: Template
    examination: Examination
    receipt: Receipt

    @property
    def cost_per_call_usd(self) -> Decimal | None:
        cost, answers = self.examination.cost_usd, self.examination.answers
        return None if cost is None or not answers else cost / answers

    def document(self) -> dict[str, Any]:
        count, seen = self.receipt.count, self.examination
        cost = self.cost_per_call_usd
        return {
            "text": self.text,
            "tier": self.tier,
            "model": self.model,
            "passed": count.passed,
            "total": count.total,
            "wilson_95": list(wilson_interval(count.passed, count.total, 0.95)),
            "prompt_tokens": seen.prompt_tokens,
            "completion_tokens": seen.completion_tokens,
            "usd_per_1000_calls": None if cost is None else float(cost * CALLS),
            "median_seconds": seen.median_seconds,
            "failed": [{"case": r.case, "reasons": list(r.reasons)} for r in self.receipt.results if not r.passed],
        }


def subject(folder: Path, name: str) -> Subject:
    """The prompt *name* in *folder*. Raises PromptsFailed."""
    try:
        loaded = load(folder)
        if name not in loaded.prompts:
            there = ", ".join(sorted(loaded.prompts)) or "none"
            raise PromptsFailed(f"{folder} has no prompt {name!r}; it has: {there}")
        prompt = loaded.prompts[name]
        suite = load_suite(folder / name)
        return Subject(prompt, suite, Cases.of(suite), loaded.policy.tiers)
    except (LoadRefused, SuiteError, TooFewCases, OSError) as error:
        raise PromptsFailed(str(error)) from error


def enough_for(bar: str | None, confidence: float) -> Callable[[int, int, int], bool]:
    """Whether so many passed of so many hold *bar*, the best of so many texts: the chance of error is shared among them
    (Bonferroni), or the luckiest would do. A margin, and no bar at all, ask for every case.
    """
    if bar is None or bar == EVERY or parse_bar(bar, confidence).margin is not None:
        return lambda passed, total, texts: passed == total

    def holds(passed: int, total: int, texts: int) -> bool:
        held = parse_bar(bar, 1 - (1 - confidence) / max(texts, 1))
        return held.judge(Tally(passed=passed, total=total)).verdict is Verdict.HOLDS

    return holds


def too_few(bar: str | None, held_out: int, confidence: float) -> str | None:
    """What to tell of held-out cases that could not prove *bar* if all of them passed."""
    if bar is None or bar == EVERY or (needed := cases_needed(parse_bar(bar, confidence))) <= held_out:
        return None
    return f"{held_out} held-out cases cannot prove {bar}, whatever passes: it takes {needed}"


async def find(
    about: Subject,
    on: Asked,
    writer: Asked | None,
    settings: Settings,
    budget: Budget,
    searches: Sequence[str],
    seed: int,
) -> tuple[Found, Purse]:
    """Search a better text for the tier of *on*, with a progress bar. No held-out case is looked at."""
    template, purse = about.template, Purse(budget)
    with count_bar() as bar, kept_answers(answers_path(settings.data_dir)) as kept:
        task = bar.add_task(on.tier, total=budget.calls)

        def heard(trial: Trial) -> None:
            counts = "refused" if trial.problem else f"{trial.passed}/{len(trial.examined)}"
            bar.console.print(f"{counts:>8}  {trial.name}", highlight=False, markup=False)
            bar.update(task, completed=purse.calls)

        bench = Bench(
            template,
            on.tier,
            about.cases,
            Guard(template, on.tier, held_out=about.held_out.cases, rendered=about.cases.train),
            purse,
            on.ask,
            on.model.build,
            enough_for(about.bars.of_tier(on.tier), settings.confidence),
            None if writer is None else writer.ask,
            "" if writer is None else writer.model.build,
            kept,
            heard=heard,
        )
        return await search(bench, searches, seed), purse


async def measure(about: Subject, texts: Sequence[tuple[str, Template, Asked]], settings: Settings) -> list[Measured]:
    """Each text on its tier, on the held-out cases."""
    suite, found = about.held_out, []
    with count_bar() as bar:
        for name, template, on in texts:
            task = bar.add_task(f"held out, {on.tier}", total=len(suite.cases))
            with kept_answers(answers_path(settings.data_dir)) as kept:
                found.append(await _measured(name, template, on, suite, kept, partial(_show, bar, task)))
    return found


def _show(bar: Progress, task: TaskID, done: int) -> None:
    bar.update(task, completed=done)


async def _measured(
    name: str, template: Template, on: Asked, suite: Suite, kept: Kept, progress: Callable[[int], None]
) -> Measured:
    def rendered(case: Case) -> list[dict[str, Any]]:
        return render(template, on.tier, case.vars, case.messages).messages

    seen = await examine(
        suite,
        rendered,
        on.ask,
        build=on.model.build,
        parameters=asked_with(template, on.tier),
        kept=kept,
        concurrency=2,
        progress=lambda done, of, one: progress(done),
    )
    parameters = digest([template.parameters_of(template.variant(on.tier)), template.response_format])
    binding = Binding(template.told(on.tier), suite.digest, parameters, on.model.build)
    return Measured(name, on.tier, on.model.name, template, seen, seen.receipt(binding, on.tier, datetime.now(UTC)))


def shown(rows: Sequence[Measured]) -> Any:
    made = table("tier", "text", "passed.", "Wilson 95 %.", "tokens in.", "out.", f"USD per {CALLS:,}.", "seconds.")
    for row in rows:
        count, seen = row.receipt.count, row.examination
        low, high = wilson_interval(count.passed, count.total, 0.95)
        cost = row.cost_per_call_usd
        made.add_row(
            row.tier,
            row.text,
            f"{count.passed}/{count.total}",
            f"{low:.2f} to {high:.2f}",
            _each(seen.prompt_tokens, seen.answers),
            _each(seen.completion_tokens, seen.answers),
            "unknown" if cost is None else f"{cost * CALLS:.4f}",
            "" if seen.median_seconds is None else f"{seen.median_seconds:.2f}",
        )
    return made


def _each(tokens: int | None, answers: int) -> str:
    return "unknown" if tokens is None or not answers else f"{tokens / answers:.0f}"
