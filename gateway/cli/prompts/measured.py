"""The measured table of a folder of prompts, as Markdown, and its place in a README: between two lines that stay."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.cli.prompts.examining import Tested
from gateway.cli.prompts.place import PromptsFailed, told
from gateway.cli.prompts.shown import interval, per_thousand
from router.gate import ALL, Gate, tally

BEGIN, END = "<!-- measured by pointsman prompts test -->", "<!-- end of what was measured -->"
HEAD = "| prompt | tier | passed | 95 % interval | proven | bar | holds | tokens in + out | USD per 1,000 | seconds |"
RULE = "|---|---|---:|---|---:|---:|---|---:|---:|---:|"


def check_place(path: Path) -> None:
    """Told before an hour of work and not after. Raises PromptsFailed."""
    with told():
        text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise PromptsFailed(
            f"{path}: has no place for the table; write these two lines where it belongs:\n{BEGIN}\n{END}"
        )


def put(path: Path, table: str) -> None:
    check_place(path)
    with told():
        text = path.read_text(encoding="utf-8")
        before, after = text[: text.index(BEGIN)], text[text.index(END) :]
        path.write_text(f"{before}{BEGIN}\n{table}\n{after}", encoding="utf-8")


def table(tested: Sequence[Tested], gates: Mapping[str, Gate]) -> str:
    """Answers of all runs in it were got with the builds that it names."""
    builds = dict.fromkeys((one.target.tier, one.target.place.model, one.target.place.build) for one in tested)
    lines = [f"{tier}: {model}, build {build}" for tier, model, build in builds]
    lines += ["", HEAD, RULE, *(_row(one, gates[one.job.template.id]) for one in tested)]
    return "\n".join(lines)


def _row(one: Tested, gate: Gate) -> str:
    count, examination = tally(one.receipt, None, ALL, one.fitted), one.examination
    row = next((r for r in gate.rows if r.receipt == one.receipt.id and r.metric == ALL), None)
    failing = [r.metric for r in gate.failing if r.receipt == one.receipt.id]
    cells = (
        f"`{one.job.template.id}`",
        one.target.tier,
        f"{count.passed}/{count.total}",
        interval(count.passed, count.total),
        "" if row is None or row.bound is None else f"{row.bound:.2f}",
        "" if row is None else row.bar,
        "yes" if not failing else f"no: {', '.join(failing)}",
        f"{_each(examination.prompt_tokens, examination.answers)} + "
        f"{_each(examination.completion_tokens, examination.answers)}",
        per_thousand(examination.cost_usd, examination.answers),
        "" if examination.median_seconds is None else f"{examination.median_seconds:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def _each(total: int | None, answers: int) -> str:
    return "?" if total is None or not answers else f"{total / answers:,.0f}"
