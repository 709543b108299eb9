"""Answers that were paid for once, by what they answer: a run that was cut goes on where it stopped."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import orjson

from gateway.cli.prompts.place import PromptsFailed
from prompts.answer import Answer, ToolCall

MOST_ANSWERS = 100_000  # some 500 bytes each; the oldest go
TABLE = "CREATE TABLE IF NOT EXISTS answers (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, answer TEXT NOT NULL)"


class Answers:
    """A `prompts.examination.Kept`. *again*: nothing is found in it, and what comes back takes the old one's place."""

    def __init__(self, database: sqlite3.Connection, again: bool) -> None:
        self._database, self._again = database, again

    def get(self, key: str, /) -> Answer | None:
        if self._again:
            return None
        row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else _read(row[0])

    def __setitem__(self, key: str, answer: Answer, /) -> None:
        self._database.execute("INSERT OR REPLACE INTO answers (key, answer) VALUES (?, ?)", (key, _written(answer)))
        self._database.commit()

    def tidy(self) -> None:
        newest = "SELECT coalesce(max(place), 0) FROM answers"
        self._database.execute(f"DELETE FROM answers WHERE place <= ({newest}) - ?", (MOST_ANSWERS,))  # noqa: S608  # ours
        self._database.commit()


def answers_path(data: Path) -> Path:
    """In the data directory *data*."""
    return data / "prompts" / "answers.db"


@contextmanager
def kept_answers(path: Path, again: bool = False) -> Iterator[Answers]:
    """Raises PromptsFailed where the file cannot be used."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(TABLE)
    except (OSError, sqlite3.Error) as error:
        raise PromptsFailed(f"{path}: answers cannot be kept there: {error}; remove the file, or mend it") from error
    try:
        answers = Answers(database, again)
        yield answers
        answers.tidy()
    finally:
        database.close()


def _written(answer: Answer) -> str:
    said = asdict(answer)
    said["cost_usd"] = None if answer.cost_usd is None else str(answer.cost_usd)
    return orjson.dumps(said).decode()


def _read(text: str) -> Answer | None:
    """None for what another version of the program has written: it is asked again."""
    try:
        said = orjson.loads(text)
        said["tool_calls"] = tuple(ToolCall(**call) for call in said["tool_calls"])
        said["cost_usd"] = None if said["cost_usd"] is None else Decimal(said["cost_usd"])
        return Answer(**said)
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return None
