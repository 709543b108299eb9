"""pointsman models prune: weights to zero, or whole channels or blocks away."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.cli.compress.made import finish
from gateway.cli.compress.running import CALIBRATION, Calibration, CompressFailed, Out, Source, do, text_of
from gateway.cli.compress.sources import named
from gateway.settings import load_settings

HELP = """Prune a model: set weights to zero, or leave channels or blocks out, as a new checkpoint with card and row.

magnitude   the smallest weights of each row, without looking at a text.

wanda       those that matter least: size times the strength of what flows through them on a calibration text.

depth       the blocks that change least what flows through them (--drop so many of them).

width       the channels of each feed-forward part that matter least on a calibration text (--keep 0.75 of them).

--share 0.5 zeroes half of each row; --pattern 2:4 two of each four neighbours, which the tensor cores of GPUs can skip.
Zeros are stored like other weights: no smaller, and faster only where a kernel reads the pattern. Fewer channels or
blocks are smaller and faster everywhere, and cost more quality: teach the result afterwards (models distill), and let
its suite decide. For the same bytes width costs less than depth; a folder that one has made the other takes.

Examples:

pointsman models prune smollm2-135m-instruct-q4_1 --method wanda --share 0.3 --out builds/135m-wanda

pointsman models prune smollm2-135m-instruct-q4_1 --method depth --drop 3 --out builds/135m-27-blocks

pointsman models prune smollm2-135m-instruct-q4_1 --method width --keep 0.75 --out builds/135m-narrow
"""

PATTERN = "2:4"


class Method(StrEnum):
    MAGNITUDE = "magnitude"
    WANDA = "wanda"
    DEPTH = "depth"
    WIDTH = "width"


def prune(
    source: Source,
    method: Annotated[Method, typer.Option(help="how; see above")],
    out: Out,
    share: Annotated[float | None, typer.Option(min=0.01, max=0.99, help="of each row's weights, to zero")] = None,
    pattern: Annotated[str | None, typer.Option(help="2:4 in place of a share")] = None,
    drop: Annotated[int | None, typer.Option(min=1, help="blocks to leave out, by depth")] = None,
    keep: Annotated[
        float | None, typer.Option(min=0.05, max=0.99, help="of the channels, by width; to a multiple of 128")
    ] = None,
    calibration: Calibration = CALIBRATION,
) -> None:
    if pattern not in (None, PATTERN):
        raise CompressFailed(f"--pattern {pattern}: there is one, {PATTERN}")
    values = {"--share": share, "--pattern": pattern, "--drop": drop, "--keep": keep}
    given = [name for name, value in values.items() if value is not None]
    wanted = {Method.DEPTH: ["--drop"], Method.WIDTH: ["--keep"]}.get(method, ["--share", "--pattern"])
    if len(given) != 1 or given[0] not in wanted:
        raise CompressFailed(f"--method {method} takes {' or '.join(wanted)}, and one of them is needed")
    settings = load_settings()
    origin = named(settings, source)
    asked: dict[str, Any] = {
        "source": str(origin.folder.resolve()),
        "result": str(out.resolve()),
        "method": str(method),
        "share": share,
        "pattern": pattern,
        "drop": drop,
        "keep": keep,
        "calibration": [] if method is Method.MAGNITUDE else [text_of(calibration)],
    }
    result = do(settings, "prune", asked, f"prune {origin.name}")
    facts = {"method": str(method), "share": share, "pattern": pattern, **_told(result)}
    finish(origin, out, "prune", facts, engine="vllm")


def _told(result: dict[str, Any]) -> dict[str, Any]:
    names = ("zeros", "dropped", "influences", "width")
    return {name: result[name] for name in names if name in result}
