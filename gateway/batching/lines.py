"""The lines of a batch's input: what each must have. Reads a file; knows nothing of answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.batches import Problem

LINES_LIMIT = 50_000  # OpenAI's
PROBLEMS_LIMIT = 100  # told of an input; whoever has more mends these first
ID_LIMIT_CHARACTERS = 512
AROUND_BODY_BYTES = 8_192  # of a line, beside the request's body


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch. `body` is what a client would send."""

    custom_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Input:
    """A file of requests for one *endpoint*, with bodies of at most *body_limit_bytes*."""

    path: Path
    endpoint: str
    body_limit_bytes: int

    def __iter__(self) -> Iterator[Line]:
        """The requests of a valid input. Raises OSError."""
        for _, raw in self._raw():
            written = orjson.loads(raw)
            yield Line(written["custom_id"], orjson.dumps(written["body"]))

    def check(self) -> tuple[int, list[Problem]]:
        """How many requests there are, and what is wrong with them. Raises OSError."""
        seen: set[str] = set()
        problems: list[Problem] = []
        total = 0
        for number, raw in self._raw():
            total += 1
            if total > LINES_LIMIT:
                problems.append(Problem("too_many_tasks", f"a batch has at most {LINES_LIMIT} requests", number))
            elif (problem := self._problem(number, raw, seen)) is not None:
                problems.append(problem)
            if total > LINES_LIMIT or len(problems) == PROBLEMS_LIMIT or self._is_too_long(raw):
                break
        if total == 0:
            problems.append(Problem("empty_file", "the input file has no requests"))
        return total, problems

    def _raw(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, with its number; of one that is too long only the beginning."""
        with self.path.open("rb") as file:
            number = 0
            while raw := file.readline(self._line_limit_bytes + 1):
                number += 1
                if raw.strip():
                    yield number, raw

    @property
    def _line_limit_bytes(self) -> int:
        return self.body_limit_bytes + AROUND_BODY_BYTES

    def _is_too_long(self, raw: bytes) -> bool:
        return len(raw) > self._line_limit_bytes

    def _problem(self, number: int, raw: bytes, seen: set[str]) -> Problem | None:
        if self._is_too_long(raw):
            return Problem("line_too_long", f"a line has at most {self._line_limit_bytes} bytes", number)
        try:
            written = orjson.loads(raw)
        except orjson.JSONDecodeError:
            written = None
        if not isinstance(written, dict):
            return Problem("invalid_json_line", "This line is not parseable as a JSON object.", number)
        custom_id = written.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= ID_LIMIT_CHARACTERS:
            return _missing(number, "custom_id", f"a text of 1 to {ID_LIMIT_CHARACTERS} characters")
        if custom_id in seen:
            message = f"The custom_id {custom_id[:100]!r} is that of an earlier line."
            return Problem("duplicate_custom_id", message, number, "custom_id")
        seen.add(custom_id)
        return self._problem_of_request(number, written)

    def _problem_of_request(self, number: int, written: dict[str, Any]) -> Problem | None:
        if written.get("method") != "POST":
            return Problem("invalid_method", "The method must be 'POST'.", number, "method")
        if written.get("url") != self.endpoint:
            return Problem("url_mismatch", f"The url must be the batch's endpoint, {self.endpoint!r}.", number, "url")
        body = written.get("body")
        if not isinstance(body, dict):
            return _missing(number, "body", "a JSON object")
        if body.get("stream"):
            return Problem("stream_not_supported", "A batch's answers are not streamed.", number, "body.stream")
        return None


def _missing(number: int, param: str, what: str) -> Problem:
    return Problem("missing_required_parameter", f"{param} must be {what}.", number, param)
