"""The check that a cheaper model's answer has to pass before the client sees it, else a larger model answers.

How likely such an answer is right, by its signals: a logistic model per build (`Verifier`, fitted by `router.fit`).
From which likelihood on it is released: calibrated on outcomes that nothing was fitted on (`router.trust`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from router.logistic import chance
from router.signals import NAMES, Signals

BUILTIN_VERIFIERS = Path(__file__).with_name("data") / "verifiers.json"


@dataclass(frozen=True, slots=True)
class Verifier:
    """P(the answer is right) = sigmoid(bias + sum w_i * (x_i - mean_i) / scale_i) over `router.signals.NAMES`; a signal
    that is missing counts as the mean.
    """

    bias: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.weights) == len(self.means) == len(self.scales) == len(NAMES)

    def chance(self, signals: Signals) -> float:
        """0 to 1; 0 for what is no sound answer."""
        if not signals.is_sound:
            return 0.0
        return chance(self.bias, self.weights, self.means, self.scales, signals.values)


# By template, model build, and whether it was fitted on beginnings of answers (`Outcome.first_signals`).
Verifiers = Mapping[tuple[str, str, bool], Verifier]
NO_VERIFIERS: Verifiers = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Check:
    """Release an answer whose chance to be right is at least `score`.

    `release_share`: of the answers it was calibrated on, so many pass (0 to 1). `hold_tokens`: how many tokens of a
    streamed answer are held back for it, None for the whole. One that has not ended by then is judged by its beginning
    where the check was calibrated on beginnings (`by_beginning`), and fails otherwise, as it did in the calibration.
    `hold_seconds`: how long the client may wait for that.
    """

    verifier: Verifier
    score: float
    release_share: float
    says: str
    hold_tokens: int | None = None
    hold_seconds: float | None = None
    by_beginning: bool = False

    def passes(self, signals: Signals | None) -> bool:
        if signals is None or (signals.finish_reason is None and not self.by_beginning):
            return False
        return self.verifier.chance(signals) >= self.score

    def failure(self, signals: Signals | None) -> str:
        """Why an answer with these signals did not pass; None: it was not there in time."""
        if signals is None:
            return "its answer was not there in time"
        if signals.finish_reason is None and not self.by_beginning:
            return f"its answer had not ended after {self.hold_tokens} tokens"
        if not signals.is_sound:
            return "its answer was none: it was cut off, refused, or is not in the form that was asked for"
        return f"its answer is right with chance {self.verifier.chance(signals):.2f}, under {self.score:.2f}"


def load_verifiers(path: Path = BUILTIN_VERIFIERS) -> Verifiers:
    """Raises OSError, or ValueError when the file was fitted on other signals than this code reads."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw["signals"] != list(NAMES):
        raise ValueError(f"{path} was fitted on other signals; fit it anew with: pointsman ladder fit")
    return {
        (row["template"], row["build"], row["beginning"]): Verifier(
            row["bias"], tuple(row["weights"]), tuple(row["means"]), tuple(row["scales"])
        )
        for row in raw["verifiers"]
    }


def write_verifiers(path: Path, verifiers: Verifiers) -> None:
    """JSON that `load_verifiers` reads."""
    rows = [
        {"template": template, "build": build, "beginning": beginning, **asdict(verifiers[template, build, beginning])}
        for template, build, beginning in sorted(verifiers)
    ]
    path.write_text(json.dumps({"signals": NAMES, "verifiers": rows}, indent=1) + "\n", encoding="utf-8")
