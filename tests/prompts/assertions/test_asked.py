"""Who is asked and fails to say it has not evaluated: that passes neither the assertion nor its negation."""

import asyncio
from collections.abc import Sequence

import pytest

from prompts.answer import Answer
from prompts.assertions import evaluate
from prompts.assertions.kind import Asks, Assertion, Embed, Given, Verdict
from prompts.judgement import Judge, Judgement
from prompts.message import Message

ASKED: tuple[Message, ...] = ({"role": "user", "content": "What is it?"},)


def judging(judgement: Judgement | Exception) -> Judge:
    async def judge(criterion: str, answer: str, messages: Sequence[Message]) -> Judgement:
        assert (criterion, answer, messages) == ("is polite", "Please.", ASKED)
        if isinstance(judgement, Exception):
            raise judgement
        return judgement

    return judge


def embedding(vectors: dict[str, list[float]]) -> Embed:
    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [vectors[text] for text in texts]

    return embed


def rubric(judge: Judge | None, threshold: float | None = None, negated: bool = False) -> Verdict:
    assertion = Assertion("llm-rubric", negated, "is polite", threshold)
    return asyncio.run(evaluate(assertion, Given(Answer("Please."), ASKED), Asks(judge)))


def similar(value: object, embed: Embed | None, negated: bool = False) -> Verdict:
    assertion = Assertion("similar", negated, value, 0.8)
    return asyncio.run(evaluate(assertion, Given(Answer("Please.")), Asks(embed=embed)))


@pytest.mark.parametrize(
    ("judgement", "threshold", "passed"),
    [
        (Judgement(True), None, True),
        (Judgement(True, 0.2), None, True),
        (Judgement(True, 0.8), 0.8, True),
        (Judgement(True, 0.7), 0.8, False),
        (Judgement(False, 1.0), 0.8, False),
        (Judgement(False), None, False),
    ],
)
def test_a_judge_decides(judgement: Judgement, threshold: float | None, passed: bool) -> None:
    assert rubric(judging(judgement), threshold).passed is passed
    assert rubric(judging(judgement), threshold, negated=True).passed is not passed


@pytest.mark.parametrize(
    ("judge", "threshold"),
    [
        (None, None),
        (judging(RuntimeError("out of memory")), None),
        (judging(Judgement(None, 1.0)), None),
        (judging(Judgement(True)), 0.5),
    ],
)
def test_a_judge_that_says_nothing_passes_nothing(judge: Judge | None, threshold: float | None) -> None:
    for negated in (False, True):
        said = rubric(judge, threshold, negated)
        assert not said.passed
        assert not said.evaluated
        assert said.reason.startswith("not evaluated: ")


def test_the_nearest_of_several_references_counts() -> None:
    embed = embedding({"Please.": [1.0, 0.0], "near": [1.0, 0.1], "far": [0.0, 1.0]})
    assert similar(["far", "near"], embed).passed
    assert not similar("far", embed).passed
    assert similar("far", embed, negated=True).passed


@pytest.mark.parametrize(
    "embed",
    [
        None,
        embedding({}),
        embedding({"Please.": [1.0], "x": [1.0, 2.0]}),
        embedding({"Please.": [float("nan")], "x": [1.0]}),
    ],
)
def test_an_embedder_that_fails_passes_nothing(embed: Embed | None) -> None:
    for negated in (False, True):
        said = similar("x", embed, negated)
        assert not said.passed
        assert not said.evaluated


def test_a_text_without_a_token_is_like_nothing() -> None:
    assert not similar("x", embedding({"Please.": [0.0], "x": [1.0]})).passed
