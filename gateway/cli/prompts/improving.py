"""What `optimise` and `downshift` have in common: a prompt of a folder, a search, and the table of held-out cases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import Progress, TaskID

from gateway.cli.prompts.answers import answers_path, kept_answers
from gateway.cli.prompts.examining import parameters_of, renderer
from gateway.cli.prompts.place import PromptsFailed
from gateway.cli.prompts.ready import PARALLEL, Asked
from gateway.cli.screen import count_bar, table
from gateway.library.gate import bars_of
from gateway.library.lineup import Lineup
from gateway.settings import Settings
from prompts.assertions.kind import Asks
from prompts.examination import Examination, Kept, examine
from prompts.folder import Prompt, load
from prompts.optimise.bench import Bench, Cases, TooFewCases, Trial
from prompts.optimise.budget import Purse
from prompts.optimise.guard import Guard
from prompts.optimise.search import Found, search
from prompts.promptfile import Policy
from prompts.reading import LoadRefused
from prompts.receipt import Count, Receipt, Result
from prompts.strata import strata
from prompts.suite import Bars, Split, Suite
from prompts.suite_file import SuiteError, load_suite
from prompts.template import Template
from router.bar import Tally, Verdict, parse_bar
from router.bounds import wilson_interval
from router.gate import EVERY, cases_needed

CALLS = 1000  # what costs are told for


@dataclass(frozen=True, slots=True)
class Subject:
    """A prompt with its suite, and what its library says of all prompts."""

    prompt: Prompt
    suite: Suite
    cases: Cases
    policy: Policy

    @property
    def template(self) -> Template:
        return self.prompt.template

    @property
    def held_out(self) -> Suite:
        return self.suite.only(Split.HELD_OUT)

    @property
    def bars(self) -> Bars:
        return bars_of(self.template, self.policy, self.suite)


@dataclass(frozen=True, slots=True)
class Measured:
    """One text on one tier. `receipt`: of all that it was asked. What is counted here is the held-out cases of it."""

    text: str
    tier: str
    model: str
    template: Template
    examination: Examination
    receipt: Receipt
    held_out: frozenset[str]
    strata: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def results(self) -> tuple[Result, ...]:
        return tuple(result for result in self.receipt.results if result.case in self.held_out)

    @property
    def count(self) -> Count:
        return _count(self.results)

    @property
    def by_stratum(self) -> dict[str, Count]:
        return {name: _count([r for r in self.results if r.case in cases]) for name, cases in self.strata.items()}

    @property
    def cost_per_call_usd(self) -> Decimal | None:
        cost, answers = self.examination.cost_usd, self.examination.answers
        return None if cost is None or not answers else cost / answers

    def document(self) -> dict[str, Any]:
        count, seen = self.count, self.examination
        cost = self.cost_per_call_usd
        return {
            "text": self.text,
            "tier": self.tier,
            "model": self.model,
            "passed": count.passed,
            "total": count.total,
            "wilson_95": list(wilson_interval(count.passed, count.total, 0.95)),
            "answers": seen.answers,
            "prompt_tokens": seen.prompt_tokens,
            "completion_tokens": seen.completion_tokens,
            "usd_per_1000_calls": None if cost is None else float(cost * CALLS),
            "median_seconds": seen.median_seconds,
            "strata": {name: [count.passed, count.total] for name, count in self.by_stratum.items()},
            "failed": [{"case": r.case, "reasons": list(r.reasons)} for r in self.results if not r.passed],
        }


def _count(results: Sequence[Result]) -> Count:
    return Count(sum(result.passed for result in results), len(results))


def subject(folder: Path, name: str) -> Subject:
    """The prompt *name* in *folder*. Raises PromptsFailed."""
    try:
        loaded = load(folder)
        if name not in loaded.prompts:
            there = ", ".join(sorted(loaded.prompts)) or "none"
            raise PromptsFailed(f"{folder} has no prompt {name!r}; it has: {there}")
        prompt = loaded.prompts[name]
        suite = load_suite(folder / name)
        return Subject(prompt, suite, Cases.of(suite), loaded.policy)
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
    asks: Asks,
    settings: Settings,
    purse: Purse,
    searches: Sequence[str],
    seed: int,
) -> Found:
    """Search a better text for the tier of *on*, with a progress bar. No held-out case is looked at."""
    template = about.template
    with count_bar() as bar, kept_answers(answers_path(settings.data_dir)) as kept:
        task = bar.add_task(on.tier, total=purse.budget.calls)

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
            asks,
            heard=heard,
        )
        return await search(bench, searches, seed)


@dataclass(frozen=True, slots=True)
class Asking:
    """A text, whom it is asked of, and which cases."""

    name: str
    template: Template
    on: Asked
    suite: Suite


async def measure(
    about: Subject, askings: Sequence[Asking], asks: Asks, lineup: Lineup, settings: Settings
) -> list[Measured]:
    """Each text on its tier, on its cases; *asks* are whom assertions ask."""
    found, held_out = [], frozenset(case.id for case in about.held_out.cases)
    apart = strata(about.template, about.held_out)
    with count_bar() as bar:
        for one in askings:
            task = bar.add_task(f"{one.name}, {one.on.tier}", total=len(one.suite.cases))
            with kept_answers(answers_path(settings.data_dir)) as kept:
                seen = await _examined(one, asks, kept, partial(_show, bar, task))
            binding = lineup.binding(one.template, one.on.tier, one.on.model.build, one.suite)
            receipt = seen.receipt(binding, one.on.tier, datetime.now(UTC))
            of = (one.name, one.on.tier, one.on.model.name, one.template)
            found.append(Measured(*of, seen, receipt, held_out, apart))
    return found


def _show(bar: Progress, task: TaskID, done: int) -> None:
    bar.update(task, completed=done)


async def _examined(one: Asking, asks: Asks, kept: Kept, progress: Callable[[int], None]) -> Examination:
    return await examine(
        one.suite,
        renderer(one.template, one.on.tier),
        one.on.ask,
        build=one.on.model.build,
        parameters=parameters_of(one.template, one.on.tier),
        asks=asks,
        kept=kept,
        concurrency=PARALLEL,
        progress=lambda done, of, last: progress(done),
    )


def shown(rows: Sequence[Measured]) -> Any:
    made = table("tier", "text", "passed.", "Wilson 95 %.", "tokens in.", "out.", f"USD per {CALLS:,}.", "seconds.")
    for row in rows:
        count, seen = row.count, row.examination
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


def shown_apart(rows: Sequence[Measured]) -> Any:
    """By stratum, how many held-out cases pass; None where the template names no variable to tell them apart by."""
    if not rows or not rows[0].strata:
        return None
    made = table("held out", *(f"{row.tier}, {row.text}." for row in rows))
    counts = [row.by_stratum for row in rows]
    for name in rows[0].strata:
        made.add_row(escape(name), *(f"{count[name].passed}/{count[name].total}" for count in counts))
    return made


def _each(tokens: int | None, answers: int) -> str:
    return "unknown" if tokens is None or not answers else f"{tokens / answers:.0f}"
