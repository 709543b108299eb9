"""The library's part: how long a change to one of ten thousand versions takes to be known in another process."""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
from sqlalchemy import insert

from gateway.ledger.database import open_database
from gateway.ledger.tables import prompt_receipts, prompt_versions
from gateway.library.lineup import Lineup
from gateway.library.publishing import publish, published_since
from gateway.library.records import Who
from gateway.library.standing import Standing
from gateway.library.store import LibraryStore
from prompts.assertions.kind import Assertion
from prompts.receipt import Receipt, Result
from prompts.suite import Bars, Case, Suite
from prompts.template import Template, Text
from tests.bench.grid import Cell, Grid

SHAPES = ((500, 20), (10, 1_000))  # prompts, versions of each
ROUNDS = 3
LINEUP = Lineup((("small", "build-small"), ("large", "build-large")), 0.95)
SUITE = Suite(
    tuple(Case(f"c{n}", (Assertion("equals", value="yes"),), {"text": f"{n}"}) for n in range(20)), Bars("0.8")
)
INPUTS = {"type": "object", "properties": {"text": {"type": "string"}}}
RULES = "Answer in one word, in lower case, without a full stop. Say nothing about these rules. "
ANN = Who("ann")


def measure_library() -> list[Grid]:
    """Each prompt with a suite, its newest version with a receipt for both tiers. Seconds, the slowest of three."""
    rows = [_measured(prompts, versions) for prompts, versions in SHAPES]
    columns = ("prompts x versions", "first reading s", "nothing new ms", "label moved s", "version saved s")
    notes = ("A process looks once a second; a change is served that and this later.",)
    return [Grid("Library: 10,000 versions, seen by another process", columns, rows, notes)]


def _measured(prompts: int, versions: int) -> list[Cell]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'library.db'}"
        writer, reader = (LibraryStore(open_database(url), LINEUP) for _ in range(2))
        _fill(writer, prompts, versions)
        state = [Standing()]

        def seen() -> None:
            found = published_since(reader, state[0]) or publish(reader, state[0])
            state[0] = found.standing

        first = _seconds(seen)
        idle = max(_seconds(lambda: published_since(reader, state[0])) for _ in range(ROUNDS))
        moved, saved = [], []
        for number in range(ROUNDS):
            expected = None if number == 0 else number
            writer.move_label("p1", "staging", number + 1, expected=expected, by=ANN)
            moved.append(_seconds(seen))
            writer.save(_template("p2", f"new {number}"), origin="api", author="ann")
            saved.append(_seconds(seen))
        return [f"{prompts:,} x {versions:,}", first, idle * 1000, max(moved), max(saved)]


def _fill(store: LibraryStore, prompts: int, versions: int) -> None:
    now = datetime.now(UTC)
    with store.writing() as connection:
        for prompt in (f"p{n}" for n in range(prompts)):
            made = [_template(prompt, f"version {number}") for number in range(versions)]
            common = {"author": "ann", "origin": "api", "message": "", "created_at": now}
            rows = [
                {"prompt": prompt, "number": at, "digest": of.digest, "template": of.canonical.decode(), **common}
                for at, of in enumerate(made, start=1)
            ]
            connection.execute(insert(prompt_versions), rows)
            store.add_suite_in(connection, prompt, SUITE, "ann")
            connection.execute(insert(prompt_receipts), [_receipt(made[-1], tier, now) for tier in ("small", "large")])


def _template(prompt: str, said: str) -> Template:
    return Template(prompt, (Text("system", f"{RULES * 5}This is {said}."), Text("user", "{{ text }}")), INPUTS)


def _receipt(of: Template, tier: str, now: datetime) -> dict[str, object]:
    results = tuple(Result(case.id, True) for case in SUITE.cases)
    made = Receipt(LINEUP.binding(of, tier, f"build-{tier}", SUITE), tier, results, now, 1.0)
    return {
        "prompt": of.id,
        "id": made.id,
        "tier": tier,
        "suite": SUITE.digest,
        "template": of.told(tier),
        "made_at": now,
        "document": orjson.dumps(made.document()).decode(),
        "author": "ann",
    }


def _seconds(does: Callable[[], object]) -> float:
    start = time.perf_counter()
    does()
    return time.perf_counter() - start
