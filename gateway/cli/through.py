"""pointsman router ladder: gradeable prompts through a running gateway, and what each way to choose was worth."""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from sqlalchemy import make_url

from gateway.cli.screen import console, count_bar, table
from gateway.ledger.database import open_database
from gateway.ledger.spent import spent_on
from gateway.settings import Settings, load_settings
from models.catalog import AUTO
from router.ladder import LadderPrompt, Split, read_ladder, sample, split_of
from router.outcomes import read_outcomes
from router.through import Gateway, Offer, Passed, ThroughFailed, pass_through, read_passed
from router.ways import Comparison, Difference, Spent, Terms, Way, compare, document_of

LEDGER_PATIENCE_SECONDS = 2.0  # a charge is in the database within a fraction of it

LADDER_HELP = """Send gradeable prompts through a running gateway, as `auto` and to each chat model, and compare.

FILE is gzipped JSON lines with id, task, prompt, answer, grade; the first line of a prompt is its instruction (see
docs/evidence.md). Every answer is kept beside OUT (OUT with the ending .answers.jsonl), by model build and prompt: stop
it when you like, the same command goes on where it stopped. Delete that file to ask anew.

Prompts that the router has learned from are left out, as they would flatter it; --all asks them too. Cost is what this
machine's ledger has of these very requests; where the gateway keeps its ledger elsewhere, it is unknown. Energy is an
estimate: seconds times --watts, shared by the answers asked for at a time.

Example: pointsman router ladder ladder.jsonl.gz --json ladder.json --per-task 20
"""


def ladder(
    file: Annotated[Path, typer.Argument(help="the ladder file (JSON lines, gzip)", metavar="FILE")],
    json: Annotated[Path, typer.Option("--json", help="write every figure here", metavar="OUT")],
    url: Annotated[str, typer.Option(help="where the gateway is")] = "http://127.0.0.1:8080",
    key_env: Annotated[str, typer.Option(help="the variable that holds the API key")] = "POINTSMAN_KEY",
    per_task: Annotated[int, typer.Option(min=1, help="prompts of each task")] = 40,
    model: Annotated[list[str] | None, typer.Option(help="by name only this model; may be repeated")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="answers asked for at a time")] = 2,
    watts: Annotated[
        float | None, typer.Option(min=0, help="what the machine draws while it answers, for an estimate of energy")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="also prompts that the router has learned from")] = False,
) -> None:
    if not json.resolve().parent.is_dir():  # told before hours of work and not after
        raise ThroughFailed(f"{json} cannot be written: there is no folder {json.resolve().parent}; make it first")
    try:
        known = set() if everything else _learned_from()
        there = read_ladder(file)
    except (OSError, ValueError) as error:
        raise ThroughFailed(
            f"{error}; a ladder file is gzipped JSON lines with id, task, prompt, answer, grade"
        ) from error
    prompts = sample((p for p in there if p.id not in known), per_task)
    if not prompts:
        raise ThroughFailed(
            f"{file} holds no prompt that the router has not learned from; --all asks them all the same"
        )
    answers_path = json.with_suffix(".answers.jsonl")
    gateway_key = os.environ.get(key_env) or None
    offer = asyncio.run(_ask(url, gateway_key, prompts, answers_path, model or (), parallel))
    terms = Terms(offer, parallel, watts)
    answers = _wanted(answers_path, offer, prompts, model or ())
    comparisons = compare(answers, _spent(load_settings(), answers), terms)
    left_out = sum(p.id in known for p in there)
    head = {"object": "router.ladder", "ladder": str(file), "url": url, "answers": str(answers_path)}
    document = {**head, "left_out": left_out, **document_of(comparisons, terms)}
    json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    _show(comparisons, left_out)


def _learned_from() -> set[str]:
    """The prompts whose outcomes may have a part in what the router knows."""
    return {o.prompt_id for o in read_outcomes() if split_of(o.prompt_id) is not Split.TEST}


def _ways(offer: Offer, names: Sequence[str]) -> list[str]:
    served = [model.name for model in offer.models]
    for name in names:
        if name not in served:
            raise ThroughFailed(f"--model {name}: the gateway serves no such chat model; it has: {', '.join(served)}")
    return [AUTO, *(name for name in served if not names or name in names)]


async def _ask(
    url: str, key: str | None, prompts: list[LadderPrompt], path: Path, names: Sequence[str], parallel: int
) -> Offer:
    gateway = Gateway(url, key)
    try:
        offer = await gateway.offer()
        ways = _ways(offer, names)
        wanted = {p.id for p in prompts}
        kept = [a for a in read_passed(path) if a.prompt_id in wanted]
        with count_bar() as bar:
            done = {way: [a for a in kept if (a.way, a.build) == (way, offer.build_of(way))] for way in ways}
            tasks = {way: bar.add_task(way, total=len(prompts), completed=len(done[way])) for way in ways}

            def show(passed: Passed) -> None:
                so_far = done[passed.way]
                so_far.append(passed)
                right = sum(a.correct for a in so_far) / len(so_far)
                bar.update(tasks[passed.way], completed=len(so_far), description=f"{passed.way} {right:.0%}")

            await pass_through(gateway, offer, ways, prompts, path, parallel=parallel, on_answer=show)
    finally:
        await gateway.close()
    return offer


def _wanted(path: Path, offer: Offer, prompts: Iterable[LadderPrompt], names: Sequence[str]) -> list[Passed]:
    """Of all that is kept, the answers of these prompts, ways and builds; of two the later."""
    wanted = {p.id for p in prompts}
    builds = {way: offer.build_of(way) for way in _ways(offer, names)}
    kept = {
        (a.way, a.prompt_id): a for a in read_passed(path) if a.prompt_id in wanted and builds.get(a.way) == a.build
    }
    return list(kept.values())


def _spent(settings: Settings, answers: Iterable[Passed]) -> Mapping[str, Spent]:
    """From the ledger that the settings name, where there is one: it is not made for this."""
    parsed = make_url(settings.database)
    if parsed.get_backend_name() == "sqlite" and not (parsed.database and Path(parsed.database).exists()):
        return {}
    ids = [a.request_id for a in answers if a.request_id]
    database = open_database(settings.database)
    try:
        return spent_on(database, ids, patience_seconds=LEDGER_PATIENCE_SECONDS)
    finally:
        database.dispose()


def _show(comparisons: Sequence[Comparison], left_out: int) -> None:
    whole, *tasks = comparisons
    shown = table(
        "chosen", "prompts.", "right.", "95 % interval.", "large calls.", "tokens.", "USD per 1,000.", "s, median.",
        "Wh, estimate.",
    )  # fmt: skip
    for way in whole.ways:
        shown.add_row(
            way.way,
            str(way.prompts),
            f"{way.accuracy:.1%}",
            f"{way.interval[0]:.1%} to {way.interval[1]:.1%}",
            f"{way.large_share:.1%}",
            f"{way.prompt_tokens + way.completion_tokens + (way.discarded_tokens or 0):,}",
            "unknown" if way.cost_usd is None else f"{1000 * way.cost_usd / way.prompts:.4f}",
            f"{way.seconds_p50:.2f}",
            "" if way.energy_wh is None else f"{way.energy_wh:.2f}",
        )
    console.print(shown)
    for way in whole.ways:
        if way.refused:
            console.print(f"{way.way}: {way.refused} prompts were refused, and count as not right", highlight=False)
    console.print(_told_difference(whole.difference), highlight=False)
    if left_out:
        console.print(f"{left_out} prompts that the router has learned from were left out (--all asks them)")
    by_task = table("task", "prompts.", *(f"{way.way}." for way in whole.ways), "large calls.", "auto decided by")
    for one in tasks:
        by_name = {way.way: way for way in one.ways}
        rates = [f"{by_name[way.way].accuracy:.0%}" if way.way in by_name else "" for way in whole.ways]
        auto = by_name.get(AUTO)
        prompts = str(max(way.prompts for way in one.ways))
        share = f"{auto.large_share:.0%}" if auto else ""
        by_task.add_row(str(one.task), prompts, *rates, share, _bases(auto))
    console.print()
    console.print(by_task)


def _bases(auto: Way | None) -> str:
    return ", ".join(f"{basis} {count}" for basis, count in auto.bases.items()) if auto else ""


def _told_difference(difference: Difference | None) -> str:
    if difference is None:
        return "The safe tier was not asked by name, so auto is not compared with it."
    points, low, high = (100 * share for share in (difference.difference, *difference.interval))
    return (
        f"auto against always {difference.to}, on {difference.pairs} prompts: {points:+.1f} points, "
        f"95 % interval {low:+.1f} to {high:+.1f} ({difference.won} won, {difference.lost} lost)"
    )
