"""A model card: what was made of what, by which command, and what was measured of it. Values and text; no model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.cli.compress.running import CompressFailed
from gateway.cli.screen import console, table
from gateway.cli.whole import write_whole

CARD, README = "card.json", "README.md"
MEGABYTE = 1_000_000
LONGEST = 8  # of a list that is shown

Card = Mapping[str, Any]  # JSON, as it lies in the folder

# What is shown of each build, side by side: the key in `measured`, its heading, how it is written.
FIGURES: Sequence[tuple[str, str, str]] = (
    ("weights_bytes", "weights, MB", "mb"),
    ("memory_bytes", "memory, MB", "mb"),
    ("perplexity", "perplexity", ".2f"),
    ("first_token_seconds", "first token, s", ".3f"),
    ("first_token_alike_seconds", "first token, s, of a long prompt that begins like the last", ".3f"),
    ("tokens_per_second_1", "tokens/s, one at a time", ".1f"),
    ("tokens_per_second_8", "tokens/s, eight at a time", ".1f"),
    ("watt_hours_per_1000_tokens", "Wh per 1,000 tokens (estimate)", ".3f"),
)


def read(folder: Path) -> Card:
    """Raises CompressFailed."""
    if not (folder / CARD).is_file():
        raise CompressFailed(f"{folder}: has no {CARD}; pointsman models bench {folder} writes one")
    return load(folder / CARD)


def load(path: Path) -> Card:
    """Raises CompressFailed."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompressFailed(f"{path}: cannot be read ({error}); remove it and measure again") from error
    if not isinstance(card, dict):
        raise CompressFailed(f"{path}: is no card; remove it and measure again")
    return card


def show(cards: Sequence[Card]) -> None:
    shown = table("", *(f"{card['name']}." for card in cards))
    for row in side_by_side(cards):
        shown.add_row(*row)
    console.print(shown)


def write_json(path: Path, card: Card) -> None:
    """Whole or not at all."""
    write_whole(path, json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def cells(card: Card) -> list[str]:
    """A column of the table: the figures, then what suites have shown."""
    measured = card.get("measured") or {}
    return [_written(measured.get(key), form) for key, _, form in FIGURES]


def accuracy(card: Card) -> dict[str, str]:
    """By suite or task: right of how many, with Wilson's interval at 95 %."""
    shown = {}
    for name, count in ((card.get("measured") or {}).get("accuracy") or {}).items():
        low, high = count["interval"]
        shown[name] = f"{count['passed']}/{count['total']} ({low:.2f} to {high:.2f})"
    return shown


def side_by_side(cards: Sequence[Card]) -> Iterator[list[str]]:
    """Rows of a table: what it is, then a cell for each of *cards*."""
    columns = [cells(card) for card in cards]
    for place, (_, heading, _) in enumerate(FIGURES):
        row = [column[place] for column in columns]
        if any(row):
            yield [heading, *row]
    found = [accuracy(card) for card in cards]
    for name in dict.fromkeys(name for one in found for name in one):
        yield [f"right: {name}", *(one.get(name, "") for one in found)]


def readme(card: Card, row: str) -> str:
    lines = [f"# {card['name']}", "", f"Made by `pointsman models {card['command']}` of `{card['of']['name']}`.", ""]
    lines += [f"- {name}: {plain(value)}" for name, value in card["facts"].items() if is_short(value)]
    if card.get("measured"):
        lines += ["", "## Measured", "", "| | |", "|---|---|"]
        lines += [f"| {heading} | {value} |" for heading, value in side_by_side([card])]
        lines += ["", _how(card["measured"])]
    else:
        lines += ["", "Not measured yet: `pointsman models bench FOLDER`."]
    lines += ["", "## Catalogue row", "", "```yaml", row.strip(), "```", ""]
    return "\n".join(lines)


def _how(measured: Mapping[str, Any]) -> str:
    return (
        f"{measured['at']} on {measured['machine']}. Perplexity is of {measured.get('tokens', 0)} tokens, to "
        "compare builds of one model. Energy is an estimate, seconds of a core times its watts; no meter was read."
    )


def _written(value: Any, form: str) -> str:
    if value is None:
        return ""
    return f"{value / MEGABYTE:,.0f}" if form == "mb" else format(value, form)


def plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def is_short(value: Any) -> bool:
    """Whether a fact is one to be read, not a list to be computed with."""
    return value is not None and not isinstance(value, dict) and not (isinstance(value, list) and len(value) > LONGEST)
