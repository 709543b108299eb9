"""The memory's part: what the router takes in a fresh interpreter, over a bare one. No gateway, no engine."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from tests.bench.grid import Cell, Grid

BARE = "print(open('/proc/self/statm').read().split()[1], __import__('resource').getpagesize())"
SERVING = "import sys, gateway.app; print(*(m for m in sys.modules if m.partition('.')[0] == 'router'))"


@dataclass(frozen=True, slots=True)
class Taken:
    """`steps`: each with resident bytes after it, and the most so far. `heavy`: libraries that nothing on the path of a
    request may import, and were.
    """

    bare_bytes: int
    steps: Sequence[tuple[str, int, int]]
    heavy: Sequence[str]


def measure_memory() -> list[Grid]:
    taken = take()
    rows: list[list[Cell]] = [
        [name, _mb(now - taken.bare_bytes), _mb(most - taken.bare_bytes)] for name, now, most in taken.steps
    ]
    bare = f"A bare interpreter takes {_mb(taken.bare_bytes):.3g} MB of 10^6 bytes."
    heavy = f"Heavy libraries imported: {', '.join(taken.heavy) or 'none'}."
    return [
        Grid("Router: resident memory over that of a bare interpreter", ("after", "MB", "at most"), rows, [bare, heavy])
    ]


def take() -> Taken:
    pages, page_bytes = map(int, _said("-c", BARE).split())
    told = orjson.loads(_said("-m", "tests.bench.router_alone", *_said("-c", SERVING).split()))
    return Taken(pages * page_bytes, [(name, now, most) for name, now, most in told["steps"]], told["heavy"])


def _said(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def _mb(size_bytes: int) -> float:
    return size_bytes / 1e6
