"""How a run of suites is shown: a table for each tier, the failing cases, and all of it as JSON. 80 columns suffice."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from rich.markup import escape

from gateway.cli.prompts.examining import Tested, counted
from gateway.cli.screen import console, table
from prompts.examination import Attempt, Examined
from prompts.message import Message, text_of
from router.bounds import lower_bound, wilson_interval
from router.gate import Gate, Row

INTERVAL_CONFIDENCE = 0.95
SHOWN_CHARACTERS = 400  # of a message or an answer


def show(tested: Sequence[Tested], gate: Gate, confidence: float, failures: int) -> None:
    """What one prompt's suite has shown, tier by tier."""
    for one in tested:
        place = one.target.place
        console.print(
            f"\n[bold]{escape(one.job.template.id)}[/] on {place.tier}: {escape(place.model)}", highlight=False
        )
        shown = table("", "passed.", "95 % interval.", "proven.", "bar.", "holds")
        for what, passed, total, row in counted(one, gate.rows):
            shown.add_row(
                escape(what), f"{passed}/{total}", interval(passed, total), *_held(row, passed, total, confidence)
            )
        console.print(shown)
        if one.fitted:
            asked = one.receipt.count.total
            says = f"{asked - len(one.fitted)} of {asked} cases count: the text, or the model, was made from the others"
            console.print(f"[yellow]{says}[/]", highlight=False)
        console.print(f"[dim]{figures(one)}[/]", highlight=False)
        for row in gate.failing:
            if row.tier == one.target.tier and row.receipt == one.receipt.id:
                console.print(f"[yellow]{escape(row.metric)}: {escape(row.why)}[/]", highlight=False)
        _show_failures(one, failures)


def _held(row: Row | None, passed: int, total: int, confidence: float) -> tuple[str, str, str]:
    """What is proven, the bar and whether it holds. Without a bar the bound is that of the rate."""
    if row is None or not row.bar:
        return f"{lower_bound(passed, total, confidence):.2f}", "", "" if row is None else "[red]no bar[/]"
    proven = "" if row.bound is None else f"{row.bound:.2f}"
    return proven, row.bar, "[green]yes[/]" if row.holds else "[red]no[/]"


def interval(passed: int, total: int) -> str:
    low, high = wilson_interval(passed, total, INTERVAL_CONFIDENCE)
    return f"{low:.0%} to {high:.0%}"


def figures(one: Tested) -> str:
    """Tokens, cost and time of an answer, and how many answers there were."""
    examination, answers = one.examination, one.examination.answers
    each = [_tokens(examination.prompt_tokens, answers), _tokens(examination.completion_tokens, answers)]
    took = "unknown" if examination.median_seconds is None else f"{examination.median_seconds:.2f} s"
    parts = [
        f"{each[0]} + {each[1]} tokens an answer",
        f"{per_thousand(examination.cost_usd, answers)} USD per 1,000",
        f"median {took}",
        f"{answers} answers",
    ]
    parts += [f"{examination.kept} of them kept from before"] if examination.kept else []
    return ", ".join(parts)


def _tokens(total: int | None, answers: int) -> str:
    return "unknown" if total is None or not answers else f"{total / answers:,.0f}"


def per_thousand(cost_usd: Decimal | None, answers: int) -> str:
    return "unknown" if cost_usd is None or not answers else f"{1000 * cost_usd / answers:.4f}"


def _show_failures(one: Tested, most: int) -> None:
    before: tuple[Message, ...] = ()
    for examined in one.examination.failures[:most]:
        attempt = _failing(examined)
        tags = f" [{', '.join(examined.case.tags)}]" if examined.case.tags else ""
        console.print(f"\n[red]failed[/] {escape(examined.case.id + tags)}", highlight=False)
        for line in _lines(attempt, before):
            console.print(line, highlight=False, soft_wrap=True)
        before = attempt.messages
    failed = one.receipt.count.total - one.receipt.count.passed
    if failed > most:
        console.print(f"\n{failed - most} more failed; --failures {failed} shows them, --case ID one", highlight=False)


def _failing(examined: Examined) -> Attempt:
    return next((attempt for attempt in examined.attempts if not attempt.passed), examined.attempts[0])


def _lines(attempt: Attempt, before: Sequence[Message]) -> Iterator[str]:
    """What was rendered, but for messages that the failure *before* had in the same place; and what came back."""
    same = sum(1 for one, other in zip(attempt.messages, before, strict=False) if one == other)
    if same:
        yield f"  [dim]{same} messages as above[/]"
    for place, message in enumerate(attempt.messages):
        if place < len(before) and before[place] == message:
            continue
        yield f"  [dim]{message.get('role')}:[/] {escape(cut(text_of(message)))}"
    if attempt.answer.error is None:
        yield f"  [bold]answered:[/] {escape(cut(attempt.answer.text)) or '(nothing)'}"
        for call in attempt.answer.tool_calls:
            yield f"  [bold]called:[/] {escape(cut(f'{call.name}({call.arguments})'))}"
    for reason in attempt.reasons:
        yield f"  [yellow]{escape(cut(reason))}[/]"


def cut(text: str) -> str:
    """On one screen: the end of a long text is left out, line endings stay visible as spaces."""
    shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text):,} characters)"
    return shown.replace("\n", "\n    ")


def document(tested: Sequence[Tested], gates: Sequence[Gate]) -> dict[str, Any]:
    """Every figure, and the failing cases with their texts."""
    rows = [row for gate in gates for row in gate.rows]
    return {
        "object": "prompts.test",
        "holds": all(gate.opens for gate in gates),
        "runs": [
            {
                "prompt": one.job.template.id,
                "digest": one.job.template.digest,
                "tier": one.target.tier,
                "model": one.target.place.model,
                "build": one.target.place.build,
                "receipt": one.receipt.document(),
                "fitted": len(one.fitted),
                "rows": [
                    {
                        "metric": what,
                        "passed": passed,
                        "total": total,
                        "interval": wilson_interval(passed, total, INTERVAL_CONFIDENCE),
                        "bound": None if row is None else row.bound,
                        "bar": None if row is None else row.bar,
                        "holds": None if row is None else row.holds,
                        "why": None if row is None else row.why,
                    }
                    for what, passed, total, row in counted(one, rows)
                ],
                "answers": one.examination.answers,
                "kept": one.examination.kept,
                "failures": [_failure(examined) for examined in one.examination.failures],
            }
            for one in tested
        ],
    }


def _failure(examined: Examined) -> dict[str, Any]:
    attempt = _failing(examined)
    return {
        "case": examined.case.id,
        "tags": list(examined.case.tags),
        "messages": list(attempt.messages),
        "answer": attempt.answer.text,
        "error": attempt.answer.error,
        "reasons": list(attempt.reasons),
    }
