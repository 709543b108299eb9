"""`python -m tests.bench.pupil FOLDER`: the traffic of one prompt before and after a pupil is served.

FOLDER is what `pointsman models distill smollm2-135m-instruct-q4_1 --prompt tenants ...` has made. Everything happens
as an operator would do it, by commands and through the front door, twice: with the student as it was, then with the
pupil in its place. Asked are letters that are in no suite (letters.jsonl), written before any model had seen them.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import orjson
import yaml
from openai import OpenAI

from gateway.cli.compress.resources import family
from gateway.cli.compress.rows import row_in
from models.catalog import Model, load_catalog
from tests.bench.grid import Cell, Grid
from tests.bench.measure import cpu_seconds, machine
from tests.gateway.test_workers import make_key
from tests.real.server import LARGE, TINY, environment, serving

PROMPTS = Path(__file__).parents[2] / "prompts" / "examples"
LETTERS = Path(__file__).with_name("letters.jsonl")
PROMPT = "tenants"
READY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What one letter came to. `seconds`: as the client waited."""

    model: str
    right: bool
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pupil", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=2, help="how often each letter is asked (2)")
    asked = parser.parse_args()
    pupil = row_in(asked.folder)
    if pupil is None:
        raise SystemExit(f"{asked.folder}: has no row.yaml; make one with pointsman models distill")
    rows = load_catalog().models
    letters = [orjson.loads(line) for line in LETTERS.read_bytes().splitlines()]
    grid: list[list[Cell]] = []
    with TemporaryDirectory() as place:
        folder, prompts = set_up(Path(place))
        for says, cheap in (("the student", rows[TINY]), ("the pupil", pupil.model_copy(update={"tier": 0}))):
            print(f"\n== {says} beside {LARGE}", flush=True)
            grid.append([says, *_served(folder, prompts, (cheap, rows[LARGE]), letters * asked.rounds)])
    columns = ("served beside the safe tier", "of it", "right", "median s", "CPU-s each", "cost of 1,000, USD")
    Grid(f"{len(letters)} letters, {asked.rounds} times; {machine()}", columns, grid).show()


def set_up(place: Path) -> tuple[Path, Path]:
    """A gateway's folder, and a copy of the prompts that may be written to."""
    folder = place / "gateway"
    folder.mkdir()
    (folder / "pointsman.yaml").write_text("{}\n", encoding="utf-8")  # of the defaults; `make_key` reads it
    return folder, Path(copytree(PROMPTS, place / "prompts"))


def _served(folder: Path, prompts: Path, rows: tuple[Model, Model], letters: list[dict[str, str]]) -> list[Cell]:
    """What a row of the table says of the cheaper of *rows*, each letter asked once."""
    catalog = folder / "catalog.yaml"
    said = [row.model_dump(mode="json", exclude_defaults=True, exclude_none=True) for row in rows]
    catalog.write_text(yaml.safe_dump({"models": said}), encoding="utf-8")
    settings = {"POINTSMAN_CATALOG": str(catalog), "POINTSMAN_MODELS": "all"}
    do(folder, settings, "test", PROMPT, "--dir", str(prompts), "--failures", "0")
    do(folder, settings, "push", "--dir", str(prompts))
    if do(folder, settings, "promote", PROMPT, "latest"):
        do(folder, settings, "promote", PROMPT, "latest", "--exclude", "small")
    with serving(folder, settings) as server:
        server.wait_until_ready(READY_SECONDS)
        client = OpenAI(base_url=f"{server.base_url}/v1", api_key=make_key(folder), max_retries=0)
        processes = family(server.process.pid)
        before = cpu_seconds(processes)
        answers = [ask(client, letter) for letter in letters]
        used = cpu_seconds(processes) - before
        cost_nano_usd = sum(charge["cost_nano_usd"] for charge in server.charges()[-len(answers) :])
        assert server.stop() == 0
    moved = sum(one.model == rows[0].name for one in answers)
    return [
        f"{moved / len(answers):.0%}",
        f"{sum(one.right for one in answers)}/{len(answers)}",
        median(one.seconds for one in answers),
        used / len(answers),
        cost_nano_usd * 1e-9 * 1000 / len(answers),
    ]


def ask(client: OpenAI, letter: Mapping[str, str]) -> Asked:
    began = perf_counter()
    prompt = {"id": PROMPT, "variables": {"message": letter["message"]}}
    answer: Any = client.post("/chat/completions", cast_to=dict[str, Any], body={"prompt": prompt})
    said = answer["choices"][0]["message"]["content"].strip()
    return Asked(answer["model"], said == letter["answer"], perf_counter() - began)


def do(folder: Path, settings: Mapping[str, str], *words: str) -> int:
    """A command of prompts, shown with what it says; its exit status."""
    print(f"\n$ pointsman prompts {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "gateway", "prompts", *words]
    return subprocess.run(command, env={**environment(folder, settings), "COLUMNS": "120"}, check=False).returncode


if __name__ == "__main__":
    main()
