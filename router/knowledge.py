"""Builds what the router knows from the committed tables. Prompts kept for judging the router are never looked at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from models.catalog import Model
from router.bar import Bar
from router.check import NO_VERIFIERS, Verifiers, load_verifiers
from router.decision import Knowledge
from router.difficulty import Difficulty, load_difficulty
from router.evidence import count
from router.graders import read_graders
from router.ladder import Split, split_of
from router.opinion import second_opinions
from router.outcomes import FIRST_TOKENS, Outcome, read_outcomes
from router.probed import NOTHING, Probed
from router.trust import checks, thresholds


@dataclass(frozen=True, slots=True)
class Hold:
    """How long an answer may be held back for a check: so many tokens of a streamed one, and so many seconds."""

    tokens: int = FIRST_TOKENS
    seconds: float = 10.0


HOLD = Hold()
NO_GRADERS: Mapping[str, str] = MappingProxyType({})


def load_knowledge(models: Sequence[Model], bar: Bar, hold: Hold = HOLD, probed: Probed = NOTHING) -> Knowledge:
    """From the tables that ship with the package, and what probes have found of builds that these do not know.

    Raises OSError or ValueError when the tables cannot be read.
    """
    outcomes, difficulty = list(read_outcomes()), load_difficulty()
    builds = {o.build for o in outcomes}
    outcomes += [o for o in probed.outcomes if o.build not in builds]
    both = Difficulty({**probed.difficulty.models, **difficulty.models})
    return make_knowledge(models, bar, outcomes, both, load_verifiers(), hold, read_graders())


def make_knowledge(
    models: Sequence[Model],
    bar: Bar,
    outcomes: Iterable[Outcome],
    difficulty: Difficulty,
    verifiers: Verifiers = NO_VERIFIERS,
    hold: Hold = HOLD,
    graders: Mapping[str, str] = NO_GRADERS,
) -> Knowledge:
    """*models* from the cheapest tier to the safe one. *graders*: by template, how its answers are compared."""
    known = [o for o in outcomes if split_of(o.prompt_id) is not Split.TEST]
    calibration = [o for o in known if split_of(o.prompt_id) is Split.CALIBRATE]
    safe_build = models[-1].build
    cheaper = [model.build for model in models[:-1]]
    knowledge = Knowledge(
        models=tuple(models),
        evidence=count(known, safe_build),
        difficulty=difficulty,
        thresholds={},
        bar=bar,
        checks=checks(cheaper, safe_build, calibration, verifiers, bar, hold.tokens, hold.seconds),
        second_opinions=second_opinions(cheaper, safe_build, known, graders, bar, hold.seconds),
    )
    return replace(knowledge, thresholds=thresholds(cheaper, safe_build, known, knowledge.leaves_open, bar))
