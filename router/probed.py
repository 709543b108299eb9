"""What probes have found, in a folder of the operator's: profiles and outcomes beside those that ship. No numpy."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.difficulty import Difficulty, SolveModel, load_difficulty, write_solve_models
from router.outcomes import DATA, Outcome, read_outcomes, write_outcomes

PROBE_SET = DATA / "probe.csv"
PROFILES = "difficulty.json"
OUTCOMES = "outcomes.csv"


@dataclass(frozen=True, slots=True)
class Probed:
    """`names`: of the models, by build."""

    difficulty: Difficulty
    outcomes: Sequence[Outcome]
    names: Mapping[str, str]


NOTHING = Probed(Difficulty({}), (), {})


def read_probe_set(path: Path = PROBE_SET) -> list[str]:
    """The ids of the prompts that a probe asks, in their order. Raises OSError."""
    with path.open(newline="", encoding="utf-8") as source:
        return [row["prompt_id"] for row in csv.DictReader(source)]


def write_probe_set(prompt_ids: Iterable[str], path: Path = PROBE_SET) -> None:
    path.write_text("\n".join(["prompt_id", *prompt_ids]) + "\n", encoding="utf-8")


def read_probed(folder: Path) -> Probed:
    """NOTHING where nobody has probed. Raises OSError, or ValueError with the remedy."""
    if not (folder / PROFILES).exists():
        return NOTHING
    try:
        outcomes = tuple(read_outcomes(folder / OUTCOMES))
        difficulty = load_difficulty(folder / PROFILES)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(
            f"{folder} cannot be read ({error}); remove it, and probe the models anew: pointsman router probe"
        ) from error
    return Probed(difficulty, outcomes, {o.build: o.model for o in outcomes})


def add_probed(folder: Path, model: SolveModel, outcomes: Sequence[Outcome]) -> None:
    """Keep the profile and the outcomes of one build, in place of what was there of it. Raises OSError, ValueError."""
    before = read_probed(folder)
    name, build = outcomes[0].model, outcomes[0].build
    folder.mkdir(parents=True, exist_ok=True)
    write_outcomes(folder / OUTCOMES, [*(o for o in before.outcomes if o.build != build), *outcomes])
    names = {**before.names, build: name}
    models = {**before.difficulty.models, build: model}
    write_solve_models(folder / PROFILES, {of: (names.get(of, of), models[of]) for of in models})
