"""The committed tables: which model build answered which prompt right, and each prompt's features. No prompt text."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from router.features import FEATURES

DATA = Path(__file__).with_name("data")
BUILTIN_OUTCOMES = DATA / "outcomes.csv"
BUILTIN_FEATURES = DATA / "features.csv"
FEATURE_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt answered by one model build. `template` is the request's `template_key`.

    Log-probabilities are natural, over the answer's tokens; None for an empty answer.
    """

    prompt_id: str
    task: str
    template: str
    model: str
    build: str
    correct: bool
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    mean_logprob: float | None
    min_logprob: float | None
    mean_margin: float | None


COLUMNS = tuple(field.name for field in fields(Outcome))
FRACTIONS = frozenset({"mean_logprob", "min_logprob", "mean_margin"})
COUNTS = frozenset({"prompt_tokens", "completion_tokens"})


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Sorted by model and prompt, so that a new run gives a readable difference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for outcome in sorted(outcomes, key=lambda o: (o.model, o.task, o.prompt_id)):
            writer.writerow({**asdict(outcome), "correct": int(outcome.correct)})


def read_outcomes(path: Path = BUILTIN_OUTCOMES) -> Iterator[Outcome]:
    """Raises OSError, or ValueError naming the line that is wrong."""
    with path.open(newline="", encoding="utf-8") as source:
        for line, row in enumerate(csv.DictReader(source), start=2):
            try:
                yield Outcome(**{column: _parse(column, row[column]) for column in COLUMNS})  # type: ignore[arg-type]  # by column
            except (KeyError, ValueError) as error:
                raise ValueError(f"{path}, line {line}: {error}") from error


def write_features(path: Path, rows: Mapping[str, tuple[float, ...]]) -> None:
    """One line per prompt id: its features, in the order of `router.features.FEATURES`."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["prompt_id", *FEATURES])
        for prompt_id in sorted(rows):
            writer.writerow([prompt_id, *(f"{value:.{FEATURE_DECIMALS}g}" for value in rows[prompt_id])])


def read_features(path: Path = BUILTIN_FEATURES) -> dict[str, tuple[float, ...]]:
    """Raises OSError, or ValueError when the table was made for other features than this code computes."""
    with path.open(newline="", encoding="utf-8") as source:
        reader = csv.reader(source)
        if next(reader)[1:] != list(FEATURES):
            raise ValueError(f"{path} holds other features; make it anew with: pointsman ladder publish")
        return {row[0]: tuple(map(float, row[1:])) for row in reader}


def _parse(column: str, text: str) -> object:
    if column == "correct":
        return bool(int(text))
    if column in COUNTS:
        return int(text)
    if column in FRACTIONS:
        return float(text) if text else None
    return text
