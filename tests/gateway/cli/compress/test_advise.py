"""What is worth having: from cards and a ledger, and never a guess."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from gateway.cli.compress.advise import advice, methods
from gateway.cli.compress.asked import Asked, asked_of
from gateway.cli.compress.front import plot
from gateway.cli.compress.resources import cpu_seconds, family, memory_bytes
from gateway.ledger.database import open_database
from gateway.ledger.tables import charges
from models.vllm.hardware import Hardware
from tests.terminal import Terminal

NOW = datetime(2026, 11, 26, tzinfo=UTC)
ASKED = Asked("key", "tenants", "safe", 1000, 100.0, 80.0, 4.0, Decimal("0.0002"))
HOUR_USD = Decimal("0.10")


def card(passed: int | None = None, *, read: float | None = 400.0, prompt: str = "tenants") -> dict[str, Any]:
    measured: dict[str, Any] = {"prompt_tokens_per_second": read, "tokens_per_second_1": 40.0}
    if passed is not None:
        measured["accuracy"] = {prompt: {"passed": passed, "total": 40, "interval": [0, 1]}}
    return {"name": "small", "facts": {}, "measured": measured}


def test_a_build_that_holds_the_bar_and_costs_less_is_worth_having() -> None:
    """80 tokens at 400 a second and 4 at 40 are 0.3 s, 0.0000083 USD at 0.10 an hour; 100 answers a day."""
    [one] = advice([ASKED], {"small": card(40)}, HOUR_USD, 0.8, 0.95)

    assert one.seconds == pytest.approx(0.3)
    assert float(one.usd_per_day or 0) == pytest.approx(100 * (0.0002 - 0.1 * 0.3 / 3600))
    assert one.says == "worth having"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (card(20), "does not hold the bar"),
        (card(None), "not tested on it: run its suite, or teach it (models distill)"),
        (card(40, prompt="another"), "not tested on it: run its suite, or teach it (models distill)"),
        (card(40, read=None), "holds the bar; its speed is not measured"),
        (card(40, read=0.5), "holds the bar, and costs more than now"),
    ],
)
def test_nothing_is_guessed(made: dict[str, Any], says: str) -> None:
    [one] = advice([ASKED], {"small": made}, HOUR_USD, 0.8, 0.95)

    assert one.says == says


def test_a_pupil_is_judged_by_what_was_held_out() -> None:
    """Not by the cases that it has learnt."""
    taught = {
        "name": "pupil",
        "facts": {"prompt": "tenants"},
        "exams": [{"passed": 0, "total": 42}, {"passed": 41, "total": 42, "median_seconds": 0.2}],
        "measured": {"accuracy": {"tenants": {"passed": 1, "total": 162}}},
    }

    [one] = advice([ASKED], {"pupil": taught}, HOUR_USD, 0.8, 0.95)

    assert (one.holds, one.seconds) == (True, 0.2)


def test_who_answers_already_is_not_advised() -> None:
    assert advice([ASKED], {"safe": card(40)}, HOUR_USD, 0.8, 0.95) == []


def test_the_ledger_is_summed_by_template_and_build(tmp_path: Path) -> None:
    """Of the last four weeks, without what a cache answered; a cost that is not known makes the mean unknown."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}")
    row = {
        "template": "t", "model": "m", "build": "b", "attempts": 1, "outcome": "ok", "streamed": False,
        "total_seconds": 1.0, "prompt_tokens": 10, "completion_tokens": 2, "cost_nano_usd": 5_000, "prompt": "p",
    }  # fmt: skip
    rows = [{**row, "id": f"{n}", "at": NOW - timedelta(days=10), "prompt_tokens": 10 + n} for n in range(3)]
    rows += [{**row, "id": "old", "at": NOW - timedelta(days=40)}, {**row, "id": "kept", "at": NOW, "cache": "exact"}]
    rows += [{**row, "id": "free", "at": NOW, "template": "u", "cost_nano_usd": None}]
    with database.begin() as connection:
        for one in rows:
            connection.execute(insert(charges).values(one))

    first, second = asked_of(database, NOW)
    database.dispose()

    assert (first.name, first.build, first.calls, first.prompt_tokens) == ("p", "b", 3, 11.0)
    assert first.per_day == pytest.approx(0.3)
    assert first.usd == Decimal("0.000005")
    assert (second.template, second.usd) == ("u", None)


def test_without_a_measured_build_the_next_step_is_told(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path))

    said = terminal.run("models", "advise")

    assert said.code == 1
    assert "no build was measured here yet: pointsman models bench" in said.err


def test_hardware_says_which_methods_gain_by_it() -> None:
    old, new = Hardware("cpu", 2**34), Hardware("cuda", 2**36, capability=(10, 0), name="B200")

    assert "no int8 instructions" in methods(old, frozenset())[0]
    assert "int8 instructions are here" in methods(old, frozenset({"avx512_vnni"}))[0]
    assert any("nvfp4" in line for line in methods(new, frozenset()))
    assert not any("nvfp4" in line for line in methods(Hardware("cuda", 2**36, capability=(9, 0)), frozenset()))


@given(st.lists(st.tuples(st.integers(1, 10**12), st.floats(1, 1e6), st.booleans()), min_size=1, max_size=20))
def test_every_build_is_a_point_within_the_plot(trials: list[tuple[int, float, bool]]) -> None:
    rows = [{"number": 0, "size_bytes": s, "perplexity": p, "on_front": f} for s, p, f in trials]

    drawn = plot(rows, "size_bytes", "matrices, MB")

    assert drawn.count("<circle") == len(trials)
    for part in drawn.split("<circle")[1:]:
        assert 0 <= float(part.split('cx="')[1].split('"')[0]) <= 760
        assert 0 <= float(part.split('cy="')[1].split('"')[0]) <= 420


def test_what_this_process_takes_is_read() -> None:
    import os

    processes = family(os.getpid())

    assert os.getpid() in processes
    assert (memory_bytes(processes) or 0) > 1_000_000
    assert (cpu_seconds(processes) or 0) > 0
    assert memory_bytes(set()) is None
