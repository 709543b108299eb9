"""pointsman router evaluate: the options, the bar and the tables. The work is in `router.evaluation`."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.failed import CommandFailed
from gateway.cli.screen import console, count_bar, table

if TYPE_CHECKING:  # the extra `fit` may not be installed
    from router.evaluation.evaluate import Results

EVALUATE_HELP = """Judge routers on tables of outcomes: how much of the large model's quality at how few of its calls.

DIR holds outcome tables, *.parquet, one row per (prompt, model), with the columns prompt_id, benchmark (taken for the
template), prompt, model, params_b, score (0 to 1), prompt_tokens_est, completion_tokens_est, and if there are any
answer and cost_usd. Known names (routellm_mmlu, routellm_gsm8k, mmlu_pro_cot, zeroeval_gsm8k, zeroeval_math_l5,
zeroeval_crux) make the sets mmlu, gsm8k, mmlu-pro, mix4, mix3, gsm8k-2b and loo-..., in which one benchmark is left out
of fitting. Any other table makes a set of its own name: its best model against its cheapest.

Everything is fitted on --train. What is judged is --test, or, without it, --train by cross-validation.

Stage "before" sees the prompt; "after" sees the small model's answer and that of one more small model, too. APGR is the
mean gap recovered over all shares of large calls (random: 0.5, higher is better); CPT50, 80 and 95 are the share of
large calls, in per cent, at which that part of the gap is recovered (lower is better). Needs the extras embedder and
fit.

Example: pointsman router evaluate --train outcomes --json results.json --plot results.html
"""


class EvaluationFailed(CommandFailed):
    """A table or an option cannot be used; the message says which, why, and what to do."""


@contextmanager
def _told() -> Iterator[None]:
    """What the evaluation raises, as one message. Its own errors are imported late, with everything else of it."""
    try:
        from router.evaluation.tables import TableError
    except ImportError as error:
        raise EvaluationFailed(f"{error}; install the extras: pip install 'pointsman[embedder,fit]'") from error
    try:
        yield
    except (TableError, OSError) as error:
        raise EvaluationFailed(str(error)) from error


def evaluate(
    train: Annotated[Path, typer.Option(help="folder of tables to fit on", metavar="DIR")],
    test: Annotated[
        Path | None, typer.Option(help="folder of tables to judge on; without it, folds of --train", metavar="DIR")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="write every figure here", metavar="FILE.json")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw quality over large calls", metavar="FILE.html|.png")] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="only this set; may be repeated")] = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="folds of cross-validation")] = 5,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="of the bootstrap, for the intervals")] = 1000,
    splits: Annotated[int, typer.Option(min=20, max=10_000, help="of the target hit rate")] = 250,
) -> None:
    with _told():
        from router.evaluation.evaluate import Options
        from router.evaluation.evaluate import evaluate as evaluate_all
        from router.evaluation.plot import draw, drawable
        from router.evaluation.written import write

        if plot is not None:
            drawable(plot)
        for path in (json, plot):
            _writable(path)
        options = Options(folds=folds, resamples=resamples, splits=splits, only=tuple(only or ()))
        with count_bar() as bar:
            task = bar.add_task("evaluate", total=None)

            def show(doing: str, done: int, total: int) -> None:
                bar.update(task, description=doing or "evaluate", completed=done, total=total)

            results = evaluate_all(train, test, options, show)
        if json is not None:
            write(json, results)
        if plot is not None:
            draw(plot, results)
    _show(results)


def _writable(path: Path | None) -> None:
    """Told before hours of work and not after."""
    if path is not None and not path.resolve().parent.is_dir():
        raise EvaluationFailed(f"{path} cannot be written: there is no folder {path.resolve().parent}; make it first")


def _show(results: "Results") -> None:
    for draw_table in (_rows, _targets, _calibration, _aiq):
        draw_table(results)
    for note in results.notes:
        console.print(note, highlight=False, markup=False)


def _rows(results: "Results") -> None:
    shown = table(
        "set", "stage", "method", "APGR.", "95 % interval.", "over the row to beat.", "CPT50.", "CPT80.", "CPT95.",
        "quality at half the cost.", "ms.",
    )  # fmt: skip
    for row in results.rows:
        if not isfinite(row.apgr):
            continue
        over = f"{row.over.apgr:+.3f} ({row.over.ci95[0]:+.3f} to {row.over.ci95[1]:+.3f})" if row.over else ""
        cpts = [_number(cpt, ".0f") for cpt in (row.cpt50, row.cpt80, row.cpt95)]
        interval = f"{row.ci95[0]:.3f} to {row.ci95[1]:.3f}"
        at_half, took = _number(row.quality_at_half_cost, ".1%"), _number(row.ms_p50, ".2f")
        shown.add_row(row.set, row.stage, row.method, f"{row.apgr:.3f}", interval, over, *cpts, at_half, took)
    console.print(shown)


def _targets(results: "Results") -> None:
    if not results.targets:
        return
    shown = table("set", "stage", "method", "promise", "kept.", "95 % interval.", "large calls.", "a coin needs.")
    for one in results.targets:
        interval = f"{one.interval[0]:.1%} to {one.interval[1]:.1%}"
        share, coin = f"{one.large_share:.1%}", f"{one.random_share:.1%}"
        shown.add_row(one.set, one.stage, one.method, one.promise, f"{one.hit_rate:.1%}", interval, share, coin)
    console.print(f"\nA threshold for {one.target:.0%} of the large model's quality, over {one.splits} splits:")
    console.print(shown)


def _calibration(results: "Results") -> None:
    if not results.calibration:
        return
    shown = table("set", "stage", "chance of", "ECE.", "said > came true, in ten bins")
    for one in results.calibration:
        bins = "  ".join(f"{of.predicted:.0%} > {of.observed:.0%}" for of in one.bins)
        shown.add_row(one.set, one.stage, one.model, f"{one.ece:.3f}", bins)
    console.print("\nHow far the chances of being right can be believed:")
    console.print(shown)


def _aiq(results: "Results") -> None:
    if not results.aiq:
        return
    shown = table("set", "method", "models.", "AIQ.", "95 % interval.")
    for one in results.aiq:
        shown.add_row(one.set, one.method, str(one.models), f"{one.aiq:.4f}", f"{one.ci95[0]:.4f} to {one.ci95[1]:.4f}")
    console.print("\nAmong all models, by recorded dollars:")
    console.print(shown)


def _number(value: float, form: str) -> str:
    return format(value, form) if isfinite(value) else ""
