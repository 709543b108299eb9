"""Which examples to show: subsets of the train cases, tried on the validation cases.

As BootstrapFewShot (Khattab et al., "DSPy", 2023) takes answers that pass as demonstrations, and then chooses among
random sets of them; here a set has as many of each answer as it can, and what the best one still gets wrong among the
train cases is tried as the next examples. Small models follow examples where they do not follow rules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from prompts.assertions.kind import Assertion
from prompts.optimise.bench import Trial, Trials
from prompts.optimise.candidate import Candidate
from prompts.render import render
from prompts.suite import Case
from prompts.template import Placeholder, Template, Text

SIZES = (8, 16, 24, 30)  # examples of a set; a prompt has 64 messages at most
SETS = 3  # of each size
ROUNDS = 4  # of taking in what still fails
TAKEN_IN = 3  # failing cases at a time, in place of as many of the others where there is no more room
ANSWER_CHARACTERS = 2_000  # an example with a longer answer is none
_MARKS = ("{{", "{%", "{#")  # what a text of the template may not say literally


@dataclass(frozen=True, slots=True)
class Example:
    """One train case, and a right answer to it."""

    case: Case
    answer: str


async def search(trials: Trials, template: Template, tier: str, seed: int) -> None:
    """Leaves the best in *trials*. Raises Stopped."""
    rng = Random(seed)  # noqa: S311  # chooses examples, keeps no secret
    start = trials.best.candidate
    pool = [example for case in trials.cases.train if (example := known(case)) is not None]
    if not pool:
        return
    sets: dict[Candidate, tuple[Example, ...]] = {}
    for size in SIZES:
        for number in range(SETS):
            chosen = balanced(pool, size, rng)
            candidate = shown(template, tier, start, chosen)
            if candidate is not None and candidate not in sets:
                sets[candidate] = chosen
                await _try(trials, candidate, f"{len(chosen)} examples, set {number + 1}")
    for number in range(ROUNDS):
        chosen = sets.get(trials.best.candidate, ())
        left = [example.case for example in pool if example not in chosen]
        tried = await trials.evaluate(trials.best.candidate, left, f"train cases, round {number + 1}")
        failing = {one.case.id for one in tried.examined if not one.passed}
        hard = [example for example in pool if example.case.id in failing]
        rng.shuffle(hard)
        if not hard:
            return
        for size in range(TAKEN_IN, 0, -1):
            kept = spread(chosen, rng)[: SIZES[-1] - size]
            more = spread([*kept, *hard[:size]], rng)
            candidate = shown(template, tier, start, more)
            if candidate is not None and candidate not in sets:
                sets[candidate] = more
                await _try(trials, candidate, f"{len(more)} examples, {size} of them failed before")


async def _try(trials: Trials, candidate: Candidate, name: str) -> Trial:
    return await trials.evaluate(candidate, trials.cases.validation, name, at_least=trials.best.passed)


def known(case: Case) -> Example | None:
    """*case* as an example, where its assertions say what the right answer is."""
    if case.messages or any(mark in str(value) for value in case.vars.values() for mark in _MARKS):
        return None
    answers = {answer for a in case.assertions if (answer := _said(a)) is not None}
    if len(answers) != 1 or any(mark in answer for answer in answers for mark in _MARKS):
        return None
    return Example(case, answers.pop())


def _said(assertion: Assertion) -> str | None:
    if assertion.kind != "equals" or assertion.negated or not assertion.weight:
        return None
    value = assertion.value
    return value if isinstance(value, str) and 0 < len(value) <= ANSWER_CHARACTERS else None


def balanced(pool: Sequence[Example], size: int, rng: Random) -> tuple[Example, ...]:
    """*size* of *pool*, by turns one of each answer, so that none is shown more often or only at the end."""
    shuffled = list(pool)
    rng.shuffle(shuffled)
    return tuple(_by_turns(shuffled))[:size]


def spread(examples: Sequence[Example], rng: Random) -> tuple[Example, ...]:
    """*examples* in another order, the answers by turns."""
    return balanced(examples, len(examples), rng)


def _by_turns(examples: Sequence[Example]) -> Iterator[Example]:
    by_answer: dict[str, list[Example]] = {}
    for example in examples:
        by_answer.setdefault(example.answer, []).append(example)
    for turn in range(max(map(len, by_answer.values()), default=0)):
        yield from (those[turn] for those in by_answer.values() if turn < len(those))


def shown(template: Template, tier: str, start: Candidate, examples: Sequence[Example]) -> Candidate | None:
    """*start* with *examples* as turns of the user and the assistant, before the user's own. None where it has no place
    for them: no message of a user, or the client's messages go before that.
    """
    place = next((p for p, part in enumerate(start) if isinstance(part, Text) and part.role == "user"), None)
    if place is None or any(isinstance(part, Placeholder) for part in start[:place]):
        return None
    turns = [
        part
        for example in examples
        for part in (Text("user", _asked(template, tier, example.case)), Text("assistant", example.answer))
    ]
    return (*start[:place], *turns, *start[place:])


def _asked(template: Template, tier: str, case: Case) -> str:
    """What the user's last message says of *case*."""
    said = [m["content"] for m in render(template, tier, case.vars).messages if m["role"] == "user"]
    return str(said[-1])
