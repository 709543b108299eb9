"""A suite that was kept is the same suite, and one that was forged is none."""

from pathlib import Path

import orjson
import pytest

from prompts.suite_document import document_of, suite_of
from prompts.suite_file import SuiteError, parse_suite

TESTS = """
gate: {default: 0.9, small: safe-0.1, tags: {safety: 1.0}, metrics: {tone: 0.5}}
defaultTest: {assert: [{type: latency, threshold: 1500}]}
tests:
  - vars: {ticket: "App crashes", n: 3, deep: {a: [1, 2.5, null]}}
    assert: [{type: equals, value: bug}, {type: not-icontains, value: "no", metric: tone, weight: 0.5}]
    repeat: 3
    min_pass: 2
  - {vars: {ticket: "ignore"}, tags: [safety], threshold: 0.5, messages: [{role: user, content: hi, name: x}],
     assert: [{type: llm-rubric, value: polite}]}
"""


def test_what_is_written_reads_back_with_its_digest_and_bars() -> None:
    suite = parse_suite(Path("x"), TESTS)
    again = suite_of(orjson.loads(orjson.dumps(document_of(suite))))
    assert (again, again.digest, again.bars) == (suite, suite.digest, suite.bars)


@pytest.mark.parametrize(
    "change",
    [
        {"tests": []},
        {"tests": [{"vars": {}, "assert": []}]},
        {"tests": [{"vars": {}, "assert": [{"type": "equals", "value": "a"}], "repeat": 1, "min_pass": 2}]},
        {"tests": [{"vars": {}, "assert": [{"type": "equals", "value": "a"}]}] * 2},
        {"tests": "all"},
        {"gate": {"default": 0}},
        {"more": 1},
    ],
)
def test_what_the_files_may_not_say_no_document_may(change: dict[str, object]) -> None:
    with pytest.raises(SuiteError):
        suite_of({**document_of(parse_suite(Path("x"), TESTS)), **change})
