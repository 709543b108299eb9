"""Promises about every kind of assertion: each is found by name, says no to its negation, and fails closed."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.answer import Answer, ToolCall
from prompts.assertions import ALIASES, KINDS, MOST_ANSWER_CHARACTERS, RUNS_CODE, evaluate, kind_named, problem_with
from prompts.assertions.kind import Asks, Assertion, Given, Threshold, Verdict
from prompts.judgement import Judgement

SCHEMA = {"type": "object", "required": ["a"], "additionalProperties": {"type": "boolean"}}
SOUND: dict[str, list[Assertion]] = {
    "equals": [Assertion("equals", value="a"), Assertion("equals", value={"a": 1}), Assertion("equals", value=1.5)],
    "one-of": [Assertion("one-of", value=["a", 1, {"a": 1}])],
    "contains": [Assertion("contains", value="a")],
    "icontains": [Assertion("icontains", value="ß")],
    "contains-any": [Assertion("contains-any", value=["a", "B"])],
    "contains-all": [Assertion("contains-all", value=["a", "B"])],
    "icontains-any": [Assertion("icontains-any", value=["a", "B"])],
    "icontains-all": [Assertion("icontains-all", value=["a", "B"])],
    "starts-with": [Assertion("starts-with", value="a")],
    "regex": [Assertion("regex", value="^a+$")],
    "final-answer": [Assertion("final-answer", value="a"), Assertion("final-answer", value=["a", "1"])],
    "number": [Assertion("number", value=1), Assertion("number", value=10.5, tolerance=10)],
    "is-json": [Assertion("is-json"), Assertion("is-json", value=SCHEMA)],
    "json-schema": [Assertion("json-schema", value=SCHEMA)],
    "contains-json": [Assertion("contains-json"), Assertion("contains-json", value=SCHEMA)],
    "calls-tool": [
        Assertion("calls-tool", value="f"),
        Assertion("calls-tool", value={"name": "f", "arguments": SCHEMA}),
    ],
    "latency": [Assertion("latency", threshold=100.0)],
    "cost": [Assertion("cost", threshold=0.01)],
    "similar": [Assertion("similar", value="a", threshold=0.8)],
    "llm-rubric": [Assertion("llm-rubric", value="it is polite", threshold=0.5), Assertion("judge", value="x")],
}
ALL = [
    Assertion(kind_named(one.kind)[0], value=one.value, threshold=one.threshold, tolerance=one.tolerance)
    for each in SOUND.values()
    for one in each
]
DETERMINISTIC = [one for one in ALL if KINDS[one.kind].check is not None]
TEXTS = st.text() | st.sampled_from(["a", "aB", ' {"a": 1} ', "1", "Answer: a", "11.0", '[{"a": 1}]', "straSSE"])
CALLS = st.lists(st.builds(ToolCall, st.sampled_from(["f", "g"]), TEXTS), max_size=2)
ANSWERS = st.builds(
    Answer,
    TEXTS,
    CALLS.map(tuple),
    st.floats(0, 1),
    st.decimals(0, 1, allow_nan=False, allow_infinity=False),
)


def verdict(assertion: Assertion, answer: Answer, asks: Asks | None = None) -> Verdict:
    return asyncio.run(evaluate(assertion, Given(answer), asks or Asks()))


def opposite(assertion: Assertion) -> Assertion:
    return Assertion(assertion.kind, not assertion.negated, assertion.value, assertion.threshold, assertion.tolerance)


def test_every_kind_is_in_these_tests() -> None:
    assert set(SOUND) == set(KINDS)


@pytest.mark.parametrize("assertion", ALL, ids=lambda one: one.kind)
def test_a_sound_assertion_is_taken(assertion: Assertion) -> None:
    assert problem_with(assertion) is None


@pytest.mark.parametrize("name", [*KINDS, *ALIASES])
def test_a_kind_and_its_negation_are_found_by_name(name: str) -> None:
    assert kind_named(name) == (ALIASES.get(name, name), False)
    assert kind_named(f"not-{name}") == (ALIASES.get(name, name), True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("eqals", "did you mean equals"),
        ("not-contain", "did you mean contains"),
        ("Regex", "did you mean regex"),
        ("frobnicate", "there are: equals, one-of"),
        ("not-not-equals", "no such assertion"),
        ("", "no such assertion"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind_named(name)


@pytest.mark.parametrize("name", sorted(RUNS_CODE))
def test_what_would_run_code_of_the_suite_is_refused_by_name(name: str) -> None:
    for written in (name, f"not-{name}"):
        with pytest.raises(ValueError, match="runs code"):
            kind_named(written)


@given(ANSWERS)
@pytest.mark.parametrize("assertion", DETERMINISTIC, ids=lambda one: one.kind)
def test_a_negation_passes_exactly_what_the_kind_fails(assertion: Assertion, answer: Answer) -> None:
    one, other = verdict(assertion, answer), verdict(opposite(assertion), answer)
    assert one.evaluated
    assert other.evaluated
    assert one.passed is not other.passed
    assert one.score + other.score == 1


@pytest.mark.parametrize("assertion", ALL, ids=lambda one: one.kind)
def test_an_answer_of_ten_megabytes_fails_every_assertion_and_every_negation(assertion: Assertion) -> None:
    huge = Answer("a" * 10_000_000, seconds=0.01, cost_usd=Decimal(0))
    for one in (assertion, opposite(assertion)):
        said = verdict(one, huge)
        assert not said.passed
        assert "characters" in said.reason


@pytest.mark.parametrize("assertion", DETERMINISTIC, ids=lambda one: one.kind)
@pytest.mark.parametrize("text", ["[" * MOST_ANSWER_CHARACTERS, '{"a":' * (MOST_ANSWER_CHARACTERS // 5), "9" * 100_000])
def test_a_hostile_answer_gets_a_verdict(assertion: Assertion, text: str) -> None:
    assert isinstance(verdict(assertion, Answer(text, seconds=0.0, cost_usd=Decimal(0))), Verdict)


@pytest.mark.parametrize("name", ["latency", "cost"])
def test_what_is_not_known_fails_a_measure_and_its_negation(name: str) -> None:
    for one in (SOUND[name][0], opposite(SOUND[name][0])):
        assert not verdict(one, Answer("a")).passed


@pytest.mark.parametrize(
    ("threshold", "answer", "passed"),
    [(100.0, Answer(seconds=0.1), True), (100.0, Answer(seconds=0.1001), False), (0.0, Answer(seconds=0.0), True)],
)
def test_latency_is_counted_in_milliseconds(threshold: float, answer: Answer, passed: bool) -> None:
    assert verdict(Assertion("latency", threshold=threshold), answer).passed is passed


def test_cost_is_exact() -> None:
    dear = Assertion("cost", threshold=0.1)
    assert verdict(dear, Answer(cost_usd=Decimal("0.1"))).passed
    assert not verdict(dear, Answer(cost_usd=Decimal("0.1000000000000000001"))).passed


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.threshold is Threshold.REQUIRED])
def test_a_threshold_that_is_needed_is_asked_for(name: str) -> None:
    bare = Assertion(name, value=SOUND[name][0].value)
    assert "needs a threshold" in (problem_with(bare) or "")


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.threshold is Threshold.NONE])
def test_a_threshold_that_would_not_be_looked_at_is_refused(name: str) -> None:
    idle = Assertion(name, value=SOUND[name][0].value, threshold=0.5)
    assert "takes no threshold" in (problem_with(idle) or "")


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("equals", True, "quotes"),
        ("equals", None, "needs a value"),
        ("one-of", "a", "list"),
        ("one-of", [], "list"),
        ("one-of", [True], "quotes"),
        ("contains", "", "every answer has that"),
        ("contains", False, "quotes"),
        ("contains", 7, "quotes"),
        ("contains-any", "a, b", "list of texts"),
        ("contains-all", [], "list of texts"),
        ("contains-all", ["a", " "], "every answer has that"),
        ("starts-with", " ", "every answer has that"),
        ("final-answer", "?!", "letter"),
        ("number", "12", "needs a number"),
        ("number", float("nan"), "needs a number"),
        ("number", True, "needs a number"),
        ("regex", "(a", "pattern"),
        ("regex", r"(a)\1", "no backreference"),
        ("regex", "(?=a)", "no lookaround"),
        ("regex", "a{1000}{1000}", "KiB compiled"),
        ("regex", "a" * 1001, "1,000 characters"),
        ("is-json", "object", "JSON Schema"),
        ("is-json", {"type": "objekt"}, "not a JSON Schema"),
        ("json-schema", None, "JSON Schema"),
        ("json-schema", {"$ref": "http://127.0.0.1/x"}, "its own parts only"),
        ("contains-json", {"pattern": "(?<!a)b"}, "linear time"),
        ("calls-tool", {"arguments": {}}, "tool's name"),
        ("calls-tool", {"name": "f", "args": {}}, "tool's name"),
        ("latency", 100, "takes no value"),
        ("llm-rubric", "", "every answer has that"),
        ("similar", [], "list of texts"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_the_remedy(kind: str, value: Any, said: str) -> None:
    threshold = None if KINDS[kind].threshold is Threshold.NONE else 0.5
    assert said in (problem_with(Assertion(kind, value=value, threshold=threshold)) or "")


def test_a_tolerance_is_for_numbers() -> None:
    assert "tolerance" in (problem_with(Assertion("equals", value="a", tolerance=1.0)) or "")


@pytest.mark.parametrize("kind", ["similar", "llm-rubric"])
def test_a_threshold_that_nothing_reaches_is_refused(kind: str) -> None:
    assert "which no" in (problem_with(Assertion(kind, value="a", threshold=80)) or "")


def test_no_reason_quotes_the_answer() -> None:
    """Receipts keep reasons and are kept for long; what a person said to a model is in neither."""
    secret = "hunter2"
    answers = [
        Answer(secret, (ToolCall("f", f'["{secret}"]'),), seconds=9.0, cost_usd=Decimal(9)),
        Answer(f'["{secret}"]', (ToolCall("f", f'{{"b": "{secret}"}}'),), seconds=9.0, cost_usd=Decimal(9)),
        Answer(f'{{"{secret}": 1}}', (ToolCall("f", f'{{"{secret}": 1}}'),)),
        Answer(f'see {{"b": "{secret}"}}', seconds=9.0, cost_usd=Decimal(9)),
    ]

    async def judge(criterion: str, answer: str, messages: object) -> Judgement:
        return Judgement(False, 0.1, f"it says {answer}")

    async def embed(texts: object) -> list[list[float]]:
        raise RuntimeError(secret)

    for assertion in ALL:
        for one in (assertion, opposite(assertion)):
            for answer in answers:
                assert secret not in verdict(one, answer, Asks(judge, embed)).reason
