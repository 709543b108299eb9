"""What came back from a model, as a suite looks at it. Knows no engine and no wire."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the text that the model wrote, which need not be JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; None is what is not known. With an `error` there was none: whatever else is said does not count."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    seconds: float | None = None
    cost_usd: Decimal | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
