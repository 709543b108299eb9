"""Answers kept in a file, so that a run that was stopped goes on where it was, and the same question is asked once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from prompts.answer import Answer, ToolCall
from router.kept import appending, read_kept

MOST_BYTES = 256 * 1024 * 1024  # a larger file is begun anew


@dataclass(frozen=True, slots=True)
class _Line:
    key: str
    text: str
    calls: tuple[tuple[str, str], ...]
    seconds: float | None
    cost_usd: str | None
    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def answer(self) -> Answer:
        return Answer(
            self.text,
            tuple(ToolCall(*call) for call in self.calls),
            self.seconds,
            None if self.cost_usd is None else Decimal(self.cost_usd),
            self.prompt_tokens,
            self.completion_tokens,
        )


class KeptAnswers:
    """By the digest of what they answer. An answer that was none is not kept."""

    def __init__(self, answers: Mapping[str, Answer], append: Callable[[Any], None]) -> None:
        self._answers, self._append = dict(answers), append

    def get(self, key: str, /) -> Answer | None:
        return self._answers.get(key)

    def __setitem__(self, key: str, answer: Answer, /) -> None:
        self._answers[key] = answer
        cost = None if answer.cost_usd is None else str(answer.cost_usd)
        calls = tuple((call.name, call.arguments) for call in answer.tool_calls)
        tokens = answer.prompt_tokens, answer.completion_tokens
        self._append(_Line(key, answer.text, calls, answer.seconds, cost, *tokens))


@contextmanager
def kept_answers(path: Path) -> Iterator[KeptAnswers]:
    """Those in the file *path*; further ones are added to it. Raises OSError."""
    if path.exists() and path.stat().st_size > MOST_BYTES:
        path.unlink()
    lines = read_kept(path, _Line)
    with appending(path) as append:
        yield KeptAnswers({line.key: line.answer for line in lines}, append)
