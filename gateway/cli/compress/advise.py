"""pointsman models advise: which builds are worth having on this machine, from what was measured and what is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from gateway.cli.compress.asked import Asked, asked_of
from gateway.cli.compress.cards import Card
from gateway.cli.compress.kept import kept
from gateway.cli.compress.resources import machine, processor
from gateway.cli.compress.running import CompressFailed
from gateway.cli.screen import console, table
from gateway.ledger.database import open_database
from gateway.settings import load_settings
from models.vllm.hardware import Hardware, find_hardware
from router.bounds import lower_bound

HELP = """Say which builds are worth having here, and what each would save: from measured numbers alone.

It takes the hardware found, the cards of the builds that were measured on this machine (models bench, models distill),
and the templates in the ledger of the last four weeks. A build is worth having for a template when it has shown that
it holds
--bar there: by the suite or held-out cases of that prompt in its card; and when its seconds at this machine's price
(machine_hour_usd) are less than what the answers cost now. Nothing that was not measured is guessed: it is told as not
known.

Example:

pointsman models advise --bar 0.8
"""

MOST_TEMPLATES = 20
INT8_FLAGS, BF16_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8"), ("avx512_bf16", "amx_bf16")
SECONDS_PER_HOUR = 3600
ADA, BLACKWELL = (8, 9), (10, 0)  # from which on there are instructions for fp8, for nvfp4


@dataclass(frozen=True, slots=True)
class Advice:
    """A build for a template. `usd_per_day` is what it would save; None where the build's speed is not known."""

    asked: Asked
    name: str
    proven: float | None
    holds: bool | None
    seconds: float | None
    usd_per_day: Decimal | None

    @property
    def says(self) -> str:
        if self.holds is None:
            return "not tested on it: run its suite, or teach it (models distill)"
        if not self.holds:
            return "does not hold the bar"
        if self.usd_per_day is None:
            return "holds the bar; its speed is not measured"
        return "worth having" if self.usd_per_day > 0 else "holds the bar, and costs more than now"


def advise(
    bar: Annotated[float, typer.Option(min=0.01, max=0.999, help="the pass-rate that must be proved")] = 0.7,
    everything: Annotated[bool, typer.Option("--all", help="also show what does not hold the bar")] = False,
) -> None:
    settings = load_settings()
    hardware, cards = find_hardware(), kept(settings)
    console.print(f"{machine()}; {_told(hardware)}", highlight=False, soft_wrap=True)
    for line in methods(hardware, flags()):
        console.print(f"- {line}", highlight=False, soft_wrap=True)
    if not cards:
        raise CompressFailed("no build was measured here yet: pointsman models bench ROW_OR_FOLDER")
    database = open_database(settings.database)
    try:
        templates = asked_of(database, datetime.now(UTC))[:MOST_TEMPLATES]
    finally:
        database.dispose()
    if not templates:
        console.print("\nThe ledger has no answers of the last four weeks, so there is nothing to save on yet.")
        return
    found = advice(templates, cards, settings.machine_hour_usd, bar, settings.confidence)
    shown = table("template", "a day.", "build", "proven.", "seconds.", "saves USD a day.", "")
    for one in found:
        if everything or one.holds:
            shown.add_row(*_cells(one))
    console.print()
    console.print(shown if shown.row_count else "No build that was measured has proved itself on what is asked here.")


def advice(
    templates: Sequence[Asked], cards: Mapping[str, Card], hour_usd: Decimal, bar: float, confidence: float
) -> list[Advice]:
    """Every build for every template, the largest saving first. A build that answers it already saves nothing."""
    found = []
    for asked in templates:
        for build, card in cards.items():
            if build == asked.build:
                continue
            count = shown_on(card, asked.prompt)
            proven = None if count is None else lower_bound(*count, confidence)
            seconds = seconds_of(card, asked)
            cost = None if seconds is None else hour_usd * Decimal(repr(seconds)) / SECONDS_PER_HOUR
            saves = None if cost is None or asked.usd is None else (asked.usd - cost) * Decimal(repr(asked.per_day))
            holds = None if proven is None else proven >= bar
            found.append(Advice(asked, card["name"], proven, holds, seconds, saves))
    return sorted(found, key=lambda one: (not one.holds, -(one.usd_per_day or Decimal(0))))


def shown_on(card: Card, prompt: str | None) -> tuple[int, int] | None:
    """Passed of how many cases of *prompt*: those that were held out where it was taught, else all of its suite."""
    if prompt is None:
        return None
    if card["facts"].get("prompt") == prompt and card.get("exams"):
        last = card["exams"][-1]
        return last["passed"], last["total"]
    count = ((card.get("measured") or {}).get("accuracy") or {}).get(prompt)
    return None if count is None else (count["passed"], count["total"])


def seconds_of(card: Card, asked: Asked) -> float | None:
    """Of an answer as long as those of the template, one at a time; where it was taught that, as it was examined."""
    if asked.prompt is not None and card["facts"].get("prompt") == asked.prompt and card.get("exams"):
        return card["exams"][-1]["median_seconds"]  # type: ignore[no-any-return]  # a number, or none
    measured: Mapping[str, Any] = card.get("measured") or {}
    read, written = measured.get("prompt_tokens_per_second"), measured.get("tokens_per_second_1")
    if not read or not written:
        return None
    return float(asked.prompt_tokens / read + asked.completion_tokens / written)


def methods(hardware: Hardware, has: frozenset[str]) -> list[str]:
    """What this hardware can gain by, in words: which kernels there are, not how fast they are here."""
    if hardware.platform == "cpu":
        int8 = bool(has.intersection(INT8_FLAGS))
        return [
            "w8a8 by vLLM: " + ("int8 instructions are here" if int8 else "no int8 instructions, so it gains little"),
            "w4a16 by vLLM: for memory; its kernel makes weights whole again, so w8a8 is faster where memory allows",
            "nf4, int8 by transformers: for memory only",
            "bfloat16: "
            + ("instructions are here" if has.intersection(BF16_FLAGS) else "no instructions, so it is slow"),
            "GGUF by llama.cpp: for one caller at a time, the least memory",
        ]
    made = ["w4a16 by vLLM (Marlin): from capability 8.0 on, faster where few answer at once"]
    made += ["fp8 by vLLM: instructions are here"] if hardware.capability >= ADA else ["fp8: no instructions"]
    made += ["nvfp4: instructions are here"] if hardware.capability >= BLACKWELL else []
    return [*made, "2:4: sparse tensor cores are here"] if hardware.capability >= (8, 0) else made


def flags() -> frozenset[str]:
    """Of the processor; empty where the system does not tell."""
    return frozenset(processor("flags").split())


def _told(hardware: Hardware) -> str:
    memory = f"{hardware.memory_bytes / 2**30:.0f} GiB"
    if hardware.platform == "cpu":
        return f"no GPU, {memory} of memory"
    return f"{hardware.devices} x {hardware.name}, {memory} each, capability {'.'.join(map(str, hardware.capability))}"


def _cells(one: Advice) -> tuple[str, ...]:
    proven = "" if one.proven is None else f"{one.proven:.2f}"
    seconds = "" if one.seconds is None else f"{one.seconds:.2f}"
    usd = "" if one.usd_per_day is None else f"{one.usd_per_day:.4f}"
    return one.asked.name, f"{one.asked.per_day:,.0f}", one.name, proven, seconds, usd, one.says
