"""What may be asserted of an answer, by name, in promptfoo's words. To add a kind: a line in one file's KINDS here."""

import difflib

from prompts.answer import Answer
from prompts.assertions import asked, forms, measured, texts
from prompts.assertions.kind import NEGATION, Asks, Assertion, Given, Kind, Threshold, Verdict, not_evaluated

KINDS: dict[str, Kind] = {**texts.KINDS, **forms.KINDS, **measured.KINDS, **asked.KINDS}
ALIASES = {"judge": "llm-rubric"}
RUNS_CODE = frozenset({"javascript", "python", "ruby", "webhook"})
MOST_ANSWER_CHARACTERS = 100_000  # an answer of 25,000 tokens; a longer one fails
MOST_VALUE_CHARACTERS = 100_000  # of JSON


def kind_named(name: str) -> tuple[str, bool]:
    """The key in KINDS of the assertion called *name*, and whether it is a negation. Raises ValueError."""
    bare = name.removeprefix(NEGATION)
    kind = ALIASES.get(bare, bare)
    if kind in KINDS:
        return kind, bare != name
    if kind in RUNS_CODE:
        raise ValueError("runs code, which a suite here cannot; say it with regex, json-schema or llm-rubric")
    known = [*KINDS, *ALIASES]
    near = difflib.get_close_matches(bare.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}, and not-... of each"
    raise ValueError(f"no such assertion; {hint}")


def problem_with(assertion: Assertion) -> str | None:
    """Why *assertion* cannot be evaluated, whatever the answer; None where it can."""
    kind = KINDS[assertion.kind]
    try:
        kind.value(assertion.value)
    except ValueError as error:
        return f"{assertion.name} {error}"
    if assertion.threshold is None and kind.threshold is Threshold.REQUIRED:
        return f"{assertion.name} needs a threshold, in {kind.unit}"
    if assertion.threshold is not None and kind.threshold is Threshold.NONE:
        return f"{assertion.name} takes no threshold"
    if assertion.threshold is not None and kind.most is not None and assertion.threshold > kind.most:
        return f"{assertion.name} has a threshold over {kind.most:g}, which no {kind.unit} reaches"
    if assertion.tolerance is not None and not kind.takes_tolerance:
        return f"{assertion.name} takes no tolerance"
    return None


def too_long(answer: Answer) -> str | None:
    """Why nobody looks at *answer*; None where it is not too long."""
    if len(answer.text) + sum(len(call.arguments) for call in answer.tool_calls) <= MOST_ANSWER_CHARACTERS:
        return None
    return f"the answer has more than {MOST_ANSWER_CHARACTERS:,} characters"


async def evaluate(assertion: Assertion, given: Given, asks: Asks) -> Verdict:
    """What *assertion* says of an answer that is no error. Nothing that is asked can raise here."""
    if problem := too_long(given.answer):
        return not_evaluated(problem)
    kind = KINDS[assertion.kind]
    if kind.check is not None:
        verdict = kind.check(assertion, given)
    else:
        assert kind.ask is not None
        verdict = await kind.ask(assertion, given, asks)
    return verdict.negated() if assertion.negated else verdict
