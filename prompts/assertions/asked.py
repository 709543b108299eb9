"""Assertions that ask a model: how alike two texts are, and what a judge says. Whoever is asked and fails to answer has
not evaluated, which is a failure.

`similar` is promptfoo's: the cosine of the texts' vectors, and no more. Texts that claim the opposite in the same words
are alike by it (EXPERIMENTS.md, 22), so the threshold must be given.
"""

from collections.abc import Sequence
from math import isfinite, sqrt

from prompts.assertions.kind import (
    Asks,
    Assertion,
    Given,
    Kind,
    Needs,
    Threshold,
    Verdict,
    a_text,
    not_evaluated,
    texts,
)


async def _similar(assertion: Assertion, given: Given, asks: Asks) -> Verdict:
    assert assertion.threshold is not None
    if asks.embed is None:
        return not_evaluated("no embedder is set")
    references = assertion.value if isinstance(assertion.value, list) else [assertion.value]
    try:
        answer, *others = await asks.embed([given.answer.text, *references])
        cosine = max(_cosine(answer, other) for other in others)
    except Exception as error:  # whatever an embedder raises, a run of many cases goes on
        return not_evaluated("the embedder failed", f"{type(error).__name__}: {error}")
    if not isfinite(cosine):
        return not_evaluated("the embedder gave no numbers")
    return Verdict(
        cosine >= assertion.threshold, f"cosine {cosine:.2f} of {assertion.threshold:g}", min(1.0, max(0.0, cosine))
    )


async def _rubric(assertion: Assertion, given: Given, asks: Asks) -> Verdict:
    if asks.judge is None:
        return not_evaluated("no judge is set")
    try:
        judged = await asks.judge(assertion.value, given.answer.text, given.messages)
    except Exception as error:  # as above
        return not_evaluated("the judge failed", f"{type(error).__name__}: {error}")
    if judged.passed is None:
        return not_evaluated("the judge did not say whether it passes", judged.reason)
    if assertion.threshold is not None and judged.score is None:
        return not_evaluated("the judge gave no score, which the threshold needs", judged.reason)
    score = float(judged.passed) if judged.score is None else judged.score
    if judged.passed and assertion.threshold is not None and score < assertion.threshold:
        return Verdict(False, f"the judge gives {score:.2f} of {assertion.threshold:g}", score, detail=judged.reason)
    return Verdict(
        judged.passed, f"the judge says it {'passes' if judged.passed else 'fails'}", score, detail=judged.reason
    )


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """0 where one of them is all zeros, as that of a text without a token is."""
    dot = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    lengths = sqrt(sum(float(a) ** 2 for a in one)) * sqrt(sum(float(b) ** 2 for b in other))
    return dot / lengths if lengths else 0.0


def _references(value: object) -> None:
    (texts if isinstance(value, list) else a_text)(value)


KINDS: dict[str, Kind] = {
    "similar": Kind(
        _references, ask=_similar, needs=Needs.EMBEDDER, threshold=Threshold.REQUIRED, unit="cosine", most=1.0
    ),
    "llm-rubric": Kind(a_text, ask=_rubric, needs=Needs.JUDGE, threshold=Threshold.OPTIONAL, unit="score", most=1.0),
}
