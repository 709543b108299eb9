"""`python -m tests.bench [gateway|decision|memory|prompts|models]`: every part, or those named."""

import argparse
import asyncio
import platform
import signal
from dataclasses import asdict
from pathlib import Path

import orjson

from gateway.cli.screen import console
from tests.bench.grid import Grid
from tests.bench.measure import machine
from tests.bench.peers import PEERS

PARTS = ("gateway", "decision", "memory", "prompts", "models")


INTERRUPTED = 130  # what a shell says of Ctrl-C


def main() -> None:
    """Print the tables. Told to stop, it first ends what it started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _measure(_asked())
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _measure(asked: argparse.Namespace) -> None:
    where = f"{machine()}, Python {platform.python_version()}"
    console.print(where, highlight=False)
    grids: list[Grid] = []
    for part in asked.part or PARTS:
        for grid in _measured(part, asked):
            grids.append(grid)
            if not asked.markdown:
                grid.show()
    if asked.markdown:
        console.print("\n\n".join(grid.markdown() for grid in grids), markup=False, highlight=False, soft_wrap=True)
    if asked.json:
        asked.json.write_bytes(orjson.dumps({"machine": where, "tables": [asdict(grid) for grid in grids]}))


def _measured(part: str, asked: argparse.Namespace) -> list[Grid]:
    """Each part is imported when it is asked for: one that cannot be does not stop the others."""
    if part == "gateway":
        from tests.bench.gateway import measure_gateways

        return asyncio.run(measure_gateways(rounds=asked.rounds, only=asked.peer))
    if part == "decision":
        from tests.bench.decision import measure_decisions

        return measure_decisions()
    if part == "memory":
        from tests.bench.memory import measure_memory

        return measure_memory()
    if part == "prompts":
        from tests.bench.library import measure_library
        from tests.bench.prompts import measure_prompts

        return [*measure_prompts(), *measure_library()]
    from tests.bench.models import measure_models

    return asyncio.run(measure_models())


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="all of them when none is named")
    parser.add_argument("--rounds", type=int, default=3, help="of the gateway's part (3)")
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", action="append", default=[], choices=[*names, "none"], help="only these peers")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for the README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
