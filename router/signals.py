"""What an answer says of itself: log-probabilities, length, how it ended, whether it refuses or breaks its form.

Read off OpenAI's chat completions, whole or streamed, as far as the answer is here. No model, no I/O.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log1p
from typing import Any

REFUSAL = re.compile(
    r"\s*(?:I(?:'m| am) (?:sorry|unable|not able)|I (?:can(?:no|')t|cannot|won't|do(?: not|n't) have)|"
    r"(?:Sorry|Unfortunately|As an AI)\b)",
    re.IGNORECASE,
)
TOP_LOGPROBS = 2  # to be asked for: the margin needs the second best
REFUSAL_CHARACTERS = 200  # a refusal says so at its beginning


@dataclass(frozen=True, slots=True)
class Signals:
    """Log-probabilities are natural, over the answer's tokens so far; None where the engine gave none.

    `margin`: how far the chosen token is ahead of the next best, on average. `finish_reason`: None while the answer
    goes on. `well_formed`: whether the text has the form that was asked for; None where none was, or while it goes on.
    """

    tokens: int
    mean_logprob: float | None = None
    min_logprob: float | None = None
    mean_margin: float | None = None
    finish_reason: str | None = None
    refuses: bool = False
    well_formed: bool | None = None

    @property
    def is_sound(self) -> bool:
        """False for what is no answer, whatever its tokens were like."""
        cut = self.finish_reason not in (None, "stop")  # a call of tools says nothing that could be read here
        return not cut and not self.refuses and self.well_formed is not False and self.tokens > 0

    @property
    def values(self) -> tuple[float | None, ...]:
        """One for each of NAMES, in that order."""
        return self.mean_logprob, self.min_logprob, self.mean_margin, log1p(self.tokens)


NAMES = ("mean_logprob", "min_logprob", "mean_margin", "log_tokens")


def signals_of(
    tokens: Sequence[Mapping[str, Any]],
    text: str,
    finish_reason: str | None,
    *,
    keeps_form: Callable[[str], bool] | None = None,
) -> Signals:
    """*tokens*: the `logprobs.content` of a choice; empty where the engine gave none. *keeps_form*: says of a whole
    text whether it has the form that was asked for; None where none was.
    """
    logprobs = [token["logprob"] for token in tokens]
    margins = [
        token["top_logprobs"][0]["logprob"] - token["top_logprobs"][1]["logprob"]
        for token in tokens
        if len(token.get("top_logprobs") or ()) > 1
    ]
    return Signals(
        tokens=(len(tokens) or len(text.split())) if text.strip() else 0,
        mean_logprob=_mean(logprobs),
        min_logprob=min(logprobs, default=None),
        mean_margin=_mean(margins),
        finish_reason=finish_reason,
        refuses=REFUSAL.match(text[:REFUSAL_CHARACTERS]) is not None,
        well_formed=keeps_form(text) if keeps_form is not None and finish_reason is not None else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
