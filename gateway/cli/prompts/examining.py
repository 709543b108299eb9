"""Suites run on tiers, one model after the other: what came of each, its receipt, and how it stands to its bars."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gateway.cli.prompts.asking import Models, whom_to_ask
from gateway.cli.prompts.tiers import Target
from gateway.library.gate import bars_of, served_by
from gateway.settings import Settings
from prompts.examination import CONCURRENCY, Examination, Examined, Kept, Render, examine
from prompts.fitted import fitted
from prompts.message import Message
from prompts.promptfile import Policy
from prompts.receipt import Receipt
from prompts.render import render
from prompts.strata import strata
from prompts.suite import Case, Suite
from prompts.template import Template
from router.gate import ALL, METRIC, TAG, Gate, Row, gate, tally

Progress = Callable[[Target, str, int], None]  # the prompt, and how many cases more are done


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt with its suite, on the tiers that it may be sent to."""

    template: Template
    suite: Suite
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Tested:
    """What one suite has shown on one tier."""

    job: Job
    target: Target
    examination: Examination
    receipt: Receipt

    @property
    def fitted(self) -> frozenset[str]:
        """Cases that do not count, as the text or the model was made from them."""
        place = self.target.place
        return fitted(self.job.template, place.tier, self.job.suite, place.taught)


def jobs_of(
    templates: Sequence[tuple[Template, Suite]], models: Models, policy: Policy, targets: Sequence[Target]
) -> list[Job]:
    """Each template with those of *targets* that it may be sent to."""
    made = []
    for template, suite in templates:
        places = models.lineup.routed(template, policy)
        made.append(Job(template, suite, tuple(target for target in targets if target.place in places)))
    return made


async def run(
    jobs: Sequence[Job], models: Models, settings: Settings, policy: Policy, kept: Kept, progress: Progress
) -> list[Tested]:
    """In the order of *jobs*, then of their targets. Each model is started once."""
    done: dict[tuple[int, int], Tested] = {}
    needs = frozenset(need for job in jobs for need in job.suite.needs)
    async with whom_to_ask(models, settings, policy, needs) as asks:
        for target in dict.fromkeys(target for job in jobs for target in job.targets):
            async with models.asking(target) as ask:
                for number, job in enumerate(jobs):
                    if target not in job.targets:
                        continue

                    def tell(_done: int, _of: int, _last: Examined, target: Target = target, job: Job = job) -> None:
                        progress(target, job.template.id, 1)

                    examination = await examine(
                        job.suite,
                        renderer(job.template, target.tier),
                        ask,
                        build=target.place.build,
                        parameters=parameters_of(job.template, target.tier),
                        asks=asks,
                        kept=kept,
                        concurrency=target.row.parallel if target.row else CONCURRENCY,
                        progress=tell,
                    )
                    binding = models.lineup.binding(job.template, target.tier, target.place.build, job.suite)
                    receipt = examination.receipt(binding, target.tier, datetime.now(UTC))
                    done[number, job.targets.index(target)] = Tested(job, target, examination, receipt)
    return [done[place] for place in sorted(done)]


def renderer(template: Template, tier: str) -> Render:
    def said(case: Case) -> Sequence[Message]:
        return render(template, tier, case.vars, case.messages).messages

    return said


def parameters_of(template: Template, tier: str) -> Mapping[str, Any]:
    """What a request has besides its messages, as `Rendered.over` makes it of an empty one."""
    parameters = dict(template.parameters_of(template.variant(tier)))
    if template.response_format is not None:
        parameters["response_format"] = dict(template.response_format)
    return parameters


def as_before(one: Tested, earlier: Sequence[Receipt]) -> Tested:
    """*one* with the *earlier* receipt that shows the same, where no answer is new: that is no other run."""
    if one.examination.kept < one.examination.answers:
        return one
    receipt = one.receipt
    same = (r for r in earlier if (r.tier, r.binding, r.results) == (receipt.tier, receipt.binding, receipt.results))
    return replace(one, receipt=next(same, receipt))


def held(job: Job, tested: Sequence[Tested], models: Models, policy: Policy, earlier: Sequence[Receipt]) -> Gate:
    """The bars of one prompt on the tiers that it was run on. A margin is held against the safe tier, whose receipt may
    be an *earlier* one.
    """
    lineup = models.lineup
    served = [served_by(job.template, lineup, one.target.place, job.suite) for one in tested]
    safe = lineup.places(policy)[-1]
    ran = {one.target.tier for one in tested}
    if safe.tier not in ran:
        served.append(served_by(job.template, lineup, safe, job.suite))
    return gate(
        served,
        {receipt.id: receipt for receipt in [*earlier, *(one.receipt for one in tested)]}.values(),
        bars_of(job.template, policy, job.suite),
        safe_tier=safe.tier,
        confidence=lineup.confidence,
        excluded=[one.tier for one in served if one.tier not in ran],
    )


def counted(one: Tested, rows: Sequence[Row]) -> Iterator[tuple[str, int, int, Row | None]]:
    """All, then tags, metrics and strata: what it is, how many passed of how many that count, and its bar where it has
    one; a stratum has none.
    """
    by_metric = {row.metric: row for row in rows if row.tier == one.target.tier and row.receipt == one.receipt.id}
    named = [ALL, *(f"{TAG}{tag}" for tag in one.receipt.tags), *(f"{METRIC}{name}" for name in one.receipt.metrics)]
    for metric in named:
        count = tally(one.receipt, None, metric, one.fitted)
        yield metric, count.passed, count.total, by_metric.get(metric)
    for name, cases in strata(one.job.template, one.job.suite).items():
        counting = [r.passed for r in one.receipt.results if r.case in cases and r.case not in one.fitted]
        yield name, sum(counting), len(counting), None


def mock(template: Template, suite: Suite, variants: Sequence[str]) -> Iterator[tuple[str, Case, str]]:
    """The cases that cannot be rendered, with the variant and why. No model is asked."""
    for variant in variants:
        for case in suite.cases:
            try:
                render(template, variant, case.vars, case.messages)
            except ValueError as error:
                yield variant, case, str(error)
