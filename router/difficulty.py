"""How likely a model solves a prompt, judged by its looks: a logistic model per build over `router.features`.

Reads one JSON file; fitting it is `router.fit`, saying from which score on it may be trusted is `router.trust`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from router.features import FEATURES
from router.logistic import chance

BUILTIN_DIFFICULTY = Path(__file__).with_name("data") / "difficulty.json"


@dataclass(frozen=True, slots=True)
class SolveModel:
    """P(this build solves the prompt) = sigmoid(bias + sum w_i * (x_i - mean_i) / scale_i)."""

    bias: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def chance(self, features: tuple[float, ...]) -> float:
        """0 to 1."""
        return chance(self.bias, self.weights, self.means, self.scales, features)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Solve models by model build."""

    models: Mapping[str, SolveModel]

    def expected_difference(self, build: str, safe_build: str, features: tuple[float, ...]) -> float | None:
        """P(the build solves it) - P(the safe tier does), -1 to 1; None when either was never fitted.

        The gain of escalating, not the difficulty, is what routing is about: where both fail, nothing is gained.
        """
        model, safe = self.models.get(build), self.models.get(safe_build)
        return model.chance(features) - safe.chance(features) if model and safe else None


def write_solve_models(path: Path, models: Mapping[str, tuple[str, SolveModel]]) -> None:
    """JSON that `load_difficulty` reads: name and solve model by build."""
    rows = {
        build: {
            "name": name,
            "bias": rounded(model.bias),
            "weights": list(map(rounded, model.weights)),
            "means": list(map(rounded, model.means)),
            "scales": list(map(rounded, model.scales)),
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
            build: SolveModel(m["bias"], tuple(m["weights"]), tuple(m["means"]), tuple(m["scales"]))
            for build, m in raw["models"].items()
        }
    )
