"""What each assertion about text and form takes for right: tables of examples."""

import asyncio
from typing import Any

import pytest

from prompts.answer import Answer, ToolCall
from prompts.assertions import evaluate
from prompts.assertions.forms import MOST_STARTS
from prompts.assertions.kind import Asks, Assertion, Given, Verdict


def verdict(kind: str, value: Any, answer: Answer, tolerance: float | None = None) -> Verdict:
    return asyncio.run(evaluate(Assertion(kind, value=value, tolerance=tolerance), Given(answer), Asks()))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("equals", "bug", " bug\n"),
        ("equals", "", "\n"),
        ("equals", {"a": 1, "b": [True]}, '{"b": [true], "a": 1.0}'),
        ("equals", 42, "42.0"),
        ("one-of", ["bug", "billing"], "billing"),
        ("one-of", [1, 2], " 2 "),
        ("contains", "log in", "Please log in."),
        ("icontains", "STRASSE", "die Straße"),
        ("contains-any", ["x", "y"], "a y"),
        ("contains-all", ["x", "y"], "y x"),
        ("icontains-any", ["X", "Q"], "a x"),
        ("icontains-all", ["X", "Y"], "y x"),
        ("starts-with", "Dear", "\n Dear Ada"),
        ("regex", "^bug$", "bug"),
        ("regex", "(?i)BUG", "a bug"),
        ("regex", r"(?m)^\d+$", "a\n12"),
        ("regex", r"[\p{L}]+", "é"),
        ("final-answer", "New York", "Thinking... Answer: **new york**."),
        ("final-answer", ["NYC", "new york"], "new york"),
        ("number", 1234, "It is 1,234."),
        ("number", -5, "from 7 to -5"),
        ("is-json", None, "[1]"),
        ("is-json", {"type": "array", "minItems": 1}, "[1]"),
        ("contains-json", None, 'Here: {"a": [1]} and more'),
        ("contains-json", {"required": ["b"]}, 'No: {"a": 1}. Yes: ```json\n{"b": 1}\n```'),
        ("contains-json", {"type": "array"}, "[1, {}]"),
    ],
)
def test_passes(kind: str, value: Any, text: str) -> None:
    assert verdict(kind, value, Answer(text)).passed


@pytest.mark.parametrize(
    ("kind", "value", "text", "why"),
    [
        ("equals", "bug", "Bug", "is not 'bug'"),
        ("equals", "bug", "bug.", "is not 'bug'"),
        ("equals", {"a": 1}, '{"a": "1"}', "is not {'a': 1}"),
        ("equals", {"a": 1}, "no JSON", "is not {'a': 1}"),
        ("one-of", ["bug", "billing"], "a bug", "is not one of ['bug', 'billing']"),
        ("contains", "Bug", "bug", "does not contain 'Bug'"),
        ("contains-all", ["x", "y", "z"], "y", "does not contain ['x', 'z']"),
        ("contains-any", ["x", "z"], "y", "does not contain ['x', 'z']"),
        ("starts-with", "Dear", "Oh dear", "does not start with 'Dear'"),
        ("regex", "^bug$", "bug\n", "does not match '^bug$'"),
        ("final-answer", "Paris", "Answer: Paris, France", "the final answer is not 'Paris'"),
        ("number", 12, "twelve", "has no number"),
        ("number", 12, "12 or 13", "the last number is not 12"),
        ("is-json", None, "```json\n{}\n```", "is not JSON"),
        ("is-json", None, "NaN", "is not JSON"),
        (
            "is-json",
            {"properties": {"a": {"type": "string"}}},
            '{"a": 7}',
            "is JSON that breaks properties/a/type of the schema",
        ),
        ("contains-json", None, "no [JSON here}", "contains no JSON object or list"),
        ("contains-json", None, "[NaN]", "contains no JSON object or list"),
        ("contains-json", {"required": ["b"]}, '{"a": 1}', "is JSON that breaks required of the schema"),
    ],
)
def test_fails_and_says_why(kind: str, value: Any, text: str, why: str) -> None:
    said = verdict(kind, value, Answer(text))
    assert not said.passed
    assert said.reason.startswith(why)


@pytest.mark.parametrize(
    ("text", "passed"), [("9.5", True), ("10.5", True), ("10.6", False), ("about 9.49", False), ("1e999", False)]
)
def test_a_tolerance_is_on_both_sides_and_counts_its_ends(text: str, passed: bool) -> None:
    assert verdict("number", 10, Answer(text), tolerance=0.5).passed is passed


TOOL = {"name": "find", "arguments": {"type": "object", "required": ["city"]}}


@pytest.mark.parametrize(
    ("value", "calls", "passed"),
    [
        ("find", [ToolCall("find", "")], True),
        ("find", [ToolCall("book", "{}"), ToolCall("find", "{}")], True),
        ("find", [ToolCall("book", "{}")], False),
        ("find", [], False),
        (TOOL, [ToolCall("find", '{"city": "Rome"}')], True),
        (TOOL, [ToolCall("find", "{}"), ToolCall("find", '{"city": "Rome"}')], True),
        (TOOL, [ToolCall("find", "{}")], False),
        (TOOL, [ToolCall("find", "city=Rome")], False),
    ],
)
def test_a_call_of_a_tool(value: Any, calls: list[ToolCall], passed: bool) -> None:
    assert verdict("calls-tool", value, Answer(tool_calls=tuple(calls))).passed is passed


def test_json_that_stands_behind_too_many_brackets_is_neither_found_nor_missed() -> None:
    text = "[x " * MOST_STARTS + '{"a": 1}'
    for negated in (False, True):
        said = asyncio.run(evaluate(Assertion("contains-json", negated), Given(Answer(text)), Asks()))
        assert not said.passed
        assert not said.evaluated
    assert verdict("contains-json", None, Answer(text.removeprefix("[x [x "))).passed
