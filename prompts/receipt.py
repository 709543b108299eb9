"""A receipt: what one run of a suite on one tier has shown, and what it is bound to. A value; no I/O.

It keeps no text of answers unless it is made so. Whether its counts are enough is the gate's to say.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from prompts.canonical import digest

ID_HEX_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Binding:
    """All that may change a result, as digests. `template`: with its partials and the schema of its variables.
    `judge`: builds and instruction of whom assertions ask, empty where they ask nobody. `build`: of the model.
    """

    template: str
    suite: str
    parameters: str
    build: str
    judge: str = ""

    def changed(self, now: "Binding") -> tuple[str, ...]:
        """What is not the same in *now*, in words; empty where all is."""
        return tuple(WORDS[part.name] for part in fields(self) if getattr(self, part.name) != getattr(now, part.name))


WORDS = {
    "template": "template",
    "suite": "suite",
    "parameters": "parameters",
    "build": "model build",
    "judge": "judge or embedder",
}


@dataclass(frozen=True, slots=True)
class Count:
    passed: int
    total: int


@dataclass(frozen=True, slots=True)
class Result:
    """One case: whether it passed, whether it passed each metric, and why not. Errors are failures; `errors` counts the
    answers that there were none of.
    """

    case: str
    passed: bool
    tags: tuple[str, ...] = ()
    metrics: Mapping[str, bool] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """`seconds`: how long the run took; `median_seconds`: an answer. Cost and tokens are those of all answers, also of
    those kept from an earlier run; None where those of one are not known. `made_at` is in UTC.
    """

    binding: Binding
    tier: str
    results: tuple[Result, ...]
    made_at: datetime
    seconds: float
    median_seconds: float | None = None
    cost_usd: Decimal | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.made_at.tzinfo is None:
            raise ValueError("a receipt's time needs a zone")
        if len({result.case for result in self.results}) < len(self.results):
            raise ValueError("a receipt counts a case twice")

    @property
    def count(self) -> Count:
        return _count(result.passed for result in self.results)

    def of_tag(self, tag: str) -> Count:
        return _count(result.passed for result in self.results if tag in result.tags)

    def of_metric(self, metric: str) -> Count:
        return _count(result.metrics[metric] for result in self.results if metric in result.metrics)

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(sorted({tag for result in self.results for tag in result.tags}))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(sorted({metric for result in self.results for metric in result.metrics}))

    @property
    def errors(self) -> int:
        return sum(result.errors for result in self.results)

    def stale(self, now: Binding) -> tuple[str, ...]:
        """What has changed since it was made; a receipt is valid where nothing has."""
        return self.binding.changed(now)

    @property
    def id(self) -> str:
        return f"r_{digest(self._content())[:ID_HEX_DIGITS]}"

    def document(self) -> dict[str, Any]:
        """As JSON, to be kept or exported. Its counts are there to be read; what is taken back is the results."""
        count = self.count
        return {"id": self.id, "passed": count.passed, "total": count.total, **self._content()}

    def _content(self) -> dict[str, Any]:
        return {
            "binding": {part.name: getattr(self.binding, part.name) for part in fields(self.binding)},
            "tier": self.tier,
            "results": [
                {
                    "case": result.case,
                    "passed": result.passed,
                    "tags": list(result.tags),
                    "metrics": dict(result.metrics),
                    "reasons": list(result.reasons),
                    "errors": result.errors,
                }
                for result in self.results
            ],
            "made_at": self.made_at.astimezone(UTC).isoformat(),
            "seconds": self.seconds,
            "median_seconds": self.median_seconds,
            "cost_usd": None if self.cost_usd is None else str(self.cost_usd),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The receipt that wrote *document*. Raises ValueError for one that was changed since, or is none."""
        try:
            receipt = cls(
                Binding(**document["binding"]),
                document["tier"],
                tuple(
                    Result(**{**one, "tags": tuple(one["tags"]), "reasons": tuple(one["reasons"])})
                    for one in document["results"]
                ),
                datetime.fromisoformat(document["made_at"]),
                document["seconds"],
                document["median_seconds"],
                None if document["cost_usd"] is None else Decimal(document["cost_usd"]),
                document["prompt_tokens"],
                document["completion_tokens"],
            )
            is_whole = dict(document) == receipt.document()
        except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
            raise ValueError(f"not a receipt: {type(error).__name__}: {error}") from error
        if not is_whole:
            raise ValueError(f"receipt {document.get('id')} was changed after it was made")
        return receipt


def _count(passed: Iterable[bool]) -> Count:
    each = list(passed)
    return Count(sum(each), len(each))
