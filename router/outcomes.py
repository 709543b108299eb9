"""The committed tables: which model build answered which prompt right, and each prompt's looks. No prompt text."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from router.features import FEATURES
from router.looks import Looks
from router.signals import Signals
from router.words import packed, unpacked

DATA = Path(__file__).with_name("data")
BUILTIN_OUTCOMES = DATA / "outcomes.csv"
BUILTIN_LOOKS = DATA / "looks.csv"
FIRST_TOKENS = 16  # of an answer: a second of a small model's on a laptop
FEATURE_DIGITS = 5  # significant
WORDS = "words"  # the column of `router.words`


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt answered by one model build. `template` is the request's `template_key`.

    Log-probabilities are natural, over the answer's tokens; None for an empty answer. `first_`: over the first
    FIRST_TOKENS of them. `said`: a digest of what was graded, the same for two answers that say the same. `seconds`:
    the engine's, while it answered others too. Empty or None where a run did not record it. `chance`: how likely it
    was to be right by a solve model that was not fitted on it, 0 to 1; None where there is none.
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
    first_mean_logprob: float | None = None
    first_min_logprob: float | None = None
    first_mean_margin: float | None = None
    said: str = ""
    seconds: float | None = None
    chance: float | None = None

    @property
    def signals(self) -> Signals:
        """Of the whole answer. Whether it refused is not in the tables."""
        return Signals(
            tokens=self.completion_tokens,
            mean_logprob=self.mean_logprob,
            min_logprob=self.min_logprob,
            mean_margin=self.mean_margin,
            finish_reason=self.finish_reason,
        )

    @property
    def is_read(self) -> bool:
        """Whether `said` tells what the grader found, be it nothing; runs without `seconds` did not record it."""
        return bool(self.said) or self.seconds is not None

    @property
    def first_signals(self) -> Signals | None:
        """Of its first FIRST_TOKENS: the whole answer where it has ended by then. None where that was not recorded."""
        if self.first_mean_logprob is None:
            return None
        if self.completion_tokens <= FIRST_TOKENS:
            return self.signals
        return Signals(FIRST_TOKENS, self.first_mean_logprob, self.first_min_logprob, self.first_mean_margin)


COLUMNS = tuple(field.name for field in fields(Outcome))
FRACTIONS = frozenset(
    {
        "mean_logprob",
        "min_logprob",
        "mean_margin",
        "first_mean_logprob",
        "first_min_logprob",
        "first_mean_margin",
        "seconds",
        "chance",
    }
)
COUNTS = frozenset({"prompt_tokens", "completion_tokens"})


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Sorted by model and prompt, so that a new run gives a readable difference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for outcome in sorted(outcomes, key=lambda o: (o.model, o.task, o.prompt_id)):
            columns = {column: getattr(outcome, column) for column in COLUMNS}  # an answer's text is none of them
            writer.writerow({**columns, "correct": int(outcome.correct)})


def read_outcomes(path: Path = BUILTIN_OUTCOMES) -> Iterator[Outcome]:
    """Raises OSError, or ValueError naming the line that is wrong."""
    for line, row in _rows(path, COLUMNS):
        try:
            yield Outcome(**{column: _parse(column, row[column]) for column in COLUMNS})  # type: ignore[arg-type]  # by column
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error


def write_looks(path: Path, rows: Mapping[str, Looks]) -> None:
    """One line per prompt id: its features, in the order of `router.features.FEATURES`, and the places of its words."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["prompt_id", *FEATURES, WORDS])
        for prompt_id in sorted(rows):
            of = rows[prompt_id]
            features = (f"{value:.{FEATURE_DIGITS}g}" for value in of.features)
            writer.writerow([prompt_id, *features, packed(of.words)])


def read_looks(path: Path = BUILTIN_LOOKS) -> dict[str, Looks]:
    """Raises OSError, or ValueError when the table was made for other features than this code computes."""
    return {
        row["prompt_id"]: Looks(tuple(float(row[name]) for name in FEATURES), unpacked(row[WORDS]))
        for _, row in _rows(path, ("prompt_id", *FEATURES, WORDS))
    }


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row by column, with the number of its line."""
    with path.open(newline="", encoding="utf-8") as source:
        reader = csv.reader(source)
        if next(reader, []) != list(columns):
            raise ValueError(f"{path} was made for other columns; make it anew with: pointsman ladder publish")
        for row in reader:
            if len(row) != len(columns):
                raise ValueError(f"{path}, line {reader.line_num}: {len(row)} columns instead of {len(columns)}")
            yield reader.line_num, dict(zip(columns, row, strict=True))


def _parse(column: str, text: str) -> object:
    if column == "correct":
        if text not in ("0", "1"):
            raise ValueError(f"correct is 0 or 1, not {text!r}")
        return text == "1"
    if column in COUNTS:
        return int(text)
    if column in FRACTIONS:
        return float(text) if text else None
    return text
