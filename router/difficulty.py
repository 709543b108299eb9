"""How likely a model solves a prompt, judged by its template, its features and its words: a logistic model per build.

Reads one JSON file; fitting it is `router.fit`, saying from which score on it may be trusted is `router.trust`.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from struct import pack, unpack

from router.features import FEATURES
from router.logistic import sigmoid
from router.looks import Looks
from router.words import PLACES

BUILTIN_DIFFICULTY = Path(__file__).with_name("data") / "difficulty.json"
MOST_DEVIATIONS = 4.0  # a feature further off its mean is taken to be that far: one odd number may not decide


@dataclass(frozen=True, slots=True)
class SolveModel:
    """P(this build solves the prompt) = sigmoid(bias + offset of its template + sum w_i * z_i + mean weight of words).

    z_i = (x_i - mean_i) / scale_i, at most MOST_DEVIATIONS either way. `offsets`: of templates that were fitted on;
    another has none, the prior of all. `words`: a weight for each of `router.words.PLACES`, or none; their sum over a
    prompt's words is divided by the root of how many there are, so that each prompt's words have length one.
    """

    bias: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    offsets: Mapping[str, float] = field(default_factory=dict)
    words: Sequence[float] = ()

    def chance(self, looks: Looks, template: str | None = None) -> float:
        """0 to 1."""
        z = self.bias + self.offsets.get(template or "", 0.0) + self.of_words(looks.words)
        for weight, mean, scale, value in zip(self.weights, self.means, self.scales, looks.features, strict=True):
            z += weight * max(-MOST_DEVIATIONS, min(MOST_DEVIATIONS, (value - mean) / scale))
        return sigmoid(z)

    def of_words(self, words: Sequence[int]) -> float:
        """What the *words* alone add to the logit."""
        if not self.words or not words:
            return 0.0
        return sum(map(self.words.__getitem__, words)) / sqrt(len(words))


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Solve models by model build."""

    models: Mapping[str, SolveModel]

    def compares(self, build: str, safe_build: str, template: str) -> bool:
        """Whether both builds were fitted on prompts of this template."""
        model, safe = self.models.get(build), self.models.get(safe_build)
        return model is not None and safe is not None and template in model.offsets and template in safe.offsets

    def expected_difference(self, build: str, safe_build: str, looks: Looks, template: str | None) -> float | None:
        """P(the build solves it) - P(the safe tier does), -1 to 1; None when either was never fitted.

        The gain of escalating, not the difficulty, is what routing is about: where both fail, nothing is gained.
        """
        model, safe = self.models.get(build), self.models.get(safe_build)
        return model.chance(looks, template) - safe.chance(looks, template) if model and safe else None


def write_solve_models(path: Path, models: Mapping[str, tuple[str, SolveModel]]) -> None:
    """JSON that `load_difficulty` reads: name and solve model by build."""
    rows = {
        build: {
            "name": name,
            "bias": rounded(model.bias),
            "weights": list(map(rounded, model.weights)),
            "means": list(map(rounded, model.means)),
            "scales": list(map(rounded, model.scales)),
            "offsets": {template: rounded(model.offsets[template]) for template in sorted(model.offsets)},
            "words": _halves(model.words),
        }
        for build, (name, model) in models.items()
    }
    path.write_text(json.dumps({"features": list(FEATURES), "models": rows}, indent=1) + "\n", encoding="utf-8")


def rounded(number: float) -> float:
    """To six significant digits, not decimals: a scale may be small, and one of 0 could not be divided by."""
    return float(f"{number:.6g}")


def load_difficulty(path: Path = BUILTIN_DIFFICULTY) -> Difficulty:
    """Raises OSError, or ValueError when the file was fitted on other features than this code computes."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw["features"] != list(FEATURES):
        raise ValueError(f"{path} was fitted on other features; fit it anew with: pointsman ladder fit")
    return Difficulty(
        {
            build: SolveModel(
                bias=m["bias"],
                weights=tuple(m["weights"]),
                means=tuple(m["means"]),
                scales=tuple(m["scales"]),
                offsets=m["offsets"],
                words=_from_halves(m["words"], path),
            )
            for build, m in raw["models"].items()
        }
    )


def _halves(words: Sequence[float]) -> str:
    """Two bytes each (IEEE 754 half precision, little-endian), in base64: 22 kB of a build."""
    return b64encode(pack(f"<{len(words)}e", *words)).decode()


def _from_halves(text: str, path: Path) -> tuple[float, ...]:
    raw = b64decode(text, validate=True)
    if len(raw) not in (0, 2 * PLACES):
        raise ValueError(f"{path} was fitted on words hashed otherwise; fit it anew with: pointsman ladder fit")
    return unpack(f"<{len(raw) // 2}e", raw)
