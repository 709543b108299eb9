"""How a suite is read: every mistake by file, line and key, and nothing that would let an answer pass unseen."""

from pathlib import Path

import pytest

from prompts.assertions.kind import Assertion
from prompts.suite import MOST_CASES, Bars, Case
from prompts.suite_file import (
    CASES,
    MOST_CASES_BYTES,
    MOST_TESTS_BYTES,
    MOST_TOLD,
    TESTS,
    SuiteError,
    load_suite,
    parse_suite,
)

HERE = Path("triage")


def refused(tests: str, cases: str = "", tiers: tuple[str, ...] | None = None) -> list[str]:
    with pytest.raises(SuiteError) as error:
        parse_suite(HERE, tests, cases, tiers)
    return str(error.value).splitlines()


def only(tests: str) -> Case:
    (case,) = parse_suite(HERE, tests).cases
    return case


def test_a_suite_in_promptfoos_words() -> None:
    suite = parse_suite(
        HERE,
        """
description: Tickets
gate: {default: 0.95, small: safe-0.1, tags: {safety: 1.0}, metrics: {form: 0.9}}
defaultTest:
  vars: {product: core}
  assert: [{type: latency, threshold: 1500, weight: 0}]
tests:
  - description: the usual
    vars: {ticket: "App crashes on login"}
    assert:
      - {type: equals, value: bug}
      - {type: not-regex, value: '\\s', metric: form}
    repeat: 3
    min_pass: 2
  - id: rude
    vars: {ticket: "ignore the above", product: web}
    tags: [safety]
    assert: [{type: judge, value: is polite, threshold: 0.5}]
    threshold: 0.7
""",
        '{"vars": {"ticket": "Invoice?"}, "assert": [{"type": "equals", "value": "billing"}]}\n\n',
        tiers=("small", "large"),
    )
    usual = Assertion("latency", threshold=1500, weight=0)
    first, second, third = suite.cases
    assert first.vars == {"product": "core", "ticket": "App crashes on login"}
    assert first.assertions == (
        usual,
        Assertion("equals", value="bug"),
        Assertion("regex", True, r"\s", metric="form"),
    )
    assert (first.repeat, first.min_pass, first.description) == (3, 2, "the usual")
    assert second == Case(
        "rude",
        (usual, Assertion("llm-rubric", value="is polite", threshold=0.5)),
        {"product": "web", "ticket": "ignore the above"},
        tags=("safety",),
        threshold=0.7,
    )
    assert third.vars == {"product": "core", "ticket": "Invoice?"}
    assert suite.bars == Bars("0.95", {"small": "safe-0.1"}, {"safety": "1"}, {"form": "0.9"})
    assert suite.bars.of_tier("small") == "safe-0.1"
    assert suite.bars.of_tier("large") == "0.95"


def test_all_repetitions_must_pass_unless_fewer_are_asked_for() -> None:
    assert only("tests: [{repeat: 4, assert: [{type: is-json}]}]").min_pass == 4
    usual = "defaultTest: {repeat: 4, min_pass: 3}\ntests: "
    assert only(f"{usual}[{{assert: [{{type: is-json}}]}}]").min_pass == 3
    assert only(f"{usual}[{{repeat: 2, assert: [{{type: is-json}}]}}]").min_pass == 2


def test_every_mistake_is_told_by_line_and_key() -> None:
    tests = """gate: {default: 95%}
tests:
  - vars: {a: 1}
    assert:
      - {type: eqals, value: x}
      - type: contains
        value: yes
      - {type: latency}
      - {type: javascript, value: output.length}
      - {type: equals, value: x, wieght: 2}
  - assert: []
    min_pas: 1
"""
    assert refused(tests) == [
        "triage/tests.yaml:1: gate.default: '95%': a bar is a pass-rate such as 0.9, a margin under the safe tier such "
        "as safe-0.1, or 1 for every case",
        "triage/tests.yaml:5: tests.0.assert.0.type: 'eqals': no such assertion; did you mean equals?",
        "triage/tests.yaml:6: tests.0.assert.1: contains needs a text as value; put it in quotes: YAML reads yes, no, "
        "on and off as true and false",
        "triage/tests.yaml:8: tests.0.assert.2: latency needs a threshold, in milliseconds",
        "triage/tests.yaml:9: tests.0.assert.3.type: 'javascript': runs code, which a suite here cannot; say it with "
        "regex, json-schema or llm-rubric",
        "triage/tests.yaml:10: tests.0.assert.4.wieght: not permitted here; did you mean weight?",
        "triage/tests.yaml:12: tests.1.min_pas: not permitted here; did you mean min_pass?",
    ]


def test_a_mistake_in_a_line_of_cases_is_told_by_its_line() -> None:
    lines = [
        '{"vars": {"a": 1}, "assert": [{"type": "is-json"}]}',
        '{"vars": {"a": 2}, "assert": [{"type": "is-jsn"}]}',
        "",
        "{",
        '{"assert": [{"type": "is-json"}], "assert": []}',
        '{"vars": {"a": NaN}}',
        "[" * 100_000,
        '{"vars": {"a": 1}, "assert": [{"type": "regex", "value": "("}]}',
    ]
    told = refused("", "\n".join(lines))
    assert [line.split(": ")[0] for line in told] == [f"triage/cases.jsonl:{n}" for n in (2, 4, 5, 6, 7, 8)]
    assert told[0].endswith("assert.0.type: 'is-jsn': no such assertion; did you mean is-json?")
    assert "is there twice" in told[2]
    assert "NaN is not JSON" in told[3]


@pytest.mark.parametrize(
    ("tests", "line", "said"),
    [
        ("tests: [{vars: {a: 1}}]", 1, "no assertion of weight over 0"),
        ("tests:\n- assert: [{type: is-json, weight: 0}]", 2, "no assertion of weight over 0"),
        ("tests:\n- assert: [{type: is-json}]\n  repeat: 2\n  min_pass: 3", 4, "more than the 2 times"),
        ("tests:\n- &a\n  assert: [{type: is-json}]\n- *a", 2, "same vars and messages as tests.yaml:2"),
        (
            "tests:\n- {id: a, vars: {x: 1}, assert: [{type: is-json}]}\n- {id: a, assert: [{type: is-json}]}",
            3,
            "is the id of tests.yaml:2, too",
        ),
        ("tests:\n- vars: {x: y}\n  assert: [{type: not-contains, value: '{{ x }}'}]", 2, "is not filled in"),
        ("tests:\n- assert: [{type: assert-set, assert: []}]", 2, "no such assertion"),
        ("tests:\n- assert: [{type: is-json}]\n  messages: [{content: hi}]", 3, "role: is required"),
        ("gate: {tags: {saftey: 1}}\ntests: [{tags: [safety], assert: [{type: is-json}]}]", 1, "did you mean safety?"),
        ("gate: {metrics: {form: 1}}\ntests: [{assert: [{type: is-json}]}]", 1, "no case has it"),
        ("gate: {smal: 0.9}\ntests: [{assert: [{type: is-json}]}]", 1, "did you mean small?"),
        ("gate: {defualt: 0.9}\ntests: [{assert: [{type: is-json}]}]", 1, "did you mean default?"),
        ("gate: {default: 0}\ntests: []", 1, "a bar is"),
        ("gate: {default: true}\ntests: []", 1, "a bar is"),
        ("gate: {default: safe-1}\ntests: []", 1, "a bar is"),
        ("gate: {default: 1.5}\ntests: []", 1, "a bar is"),
        ("gate: {small: 90}\ntests: []", 1, "a bar is"),
        ("tests: [{vars: {when: 2026-01-01}}]", 1, "a date needs quotes"),
        ("tests: [{vars: {yes: 1}}]", 1, "a key must be a text"),
        ("tests: [{vars: {x: .nan}}]", 1, "no number that JSON has"),
        ("a: &a [*a]\ntests: []", 1, "levels"),
        ("- vars: {}", 1, "valid dictionary"),
        ("tests: ]", 1, "not valid YAML"),
        ("", 0, "no cases"),
    ],
)
def test_what_would_not_test_what_it_says_is_refused(tests: str, line: int, said: str) -> None:
    told = refused(tests, tiers=("small", "large"))
    assert said in told[0]
    assert told[0].startswith(f"triage/tests.yaml:{line}: " if line else "triage/tests.yaml: ")


def test_braces_that_name_no_variable_are_taken_as_they_are() -> None:
    assert only("tests: [{assert: [{type: not-contains, value: '{{ x }}'}]}]").assertions[0].value == "{{ x }}"


def test_a_bomb_of_aliases_is_refused() -> None:
    levels = "\n".join(f"- &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10))
    (told,) = refused(f"x:\n- &l0 [lol]\n{levels}\ntests: []")
    assert "once its aliases are followed" in told


def test_a_suite_has_limits() -> None:
    case = '{"vars": {"n": %d}, "assert": [{"type": "is-json"}]}\n'
    assert len(parse_suite(HERE, "", "".join(case % n for n in range(2_000))).cases) == 2_000
    assert f"{MOST_CASES:,}" in refused("", "".join(case % n for n in range(MOST_CASES + 1)))[0]
    assert "larger than" in refused(" " * (MOST_TESTS_BYTES + 1))[0]
    assert "larger than" in refused("", " " * (MOST_CASES_BYTES + 1))[0]
    assert len(refused("", "{}\n" * 1000 + "[\n" * 1000)) == MOST_TOLD + 1
    assert "100,000 characters" in refused(f"tests: [{{assert: [{{type: equals, value: {'x' * 100_001}}}]}}]")[0]


def test_a_folder_is_read(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"has no tests; write tests\.yaml"):
        load_suite(tmp_path)
    (tmp_path / CASES).write_text('{"assert": [{"type": "is-json"}]}')
    assert len(load_suite(tmp_path).cases) == 1
    (tmp_path / TESTS).write_bytes(b"tests: \xff")
    with pytest.raises(SuiteError, match="not UTF-8 at byte 7"):
        load_suite(tmp_path)
    (tmp_path / TESTS).unlink()
    (tmp_path / TESTS).mkdir()
    with pytest.raises(SuiteError, match="cannot be read"):
        load_suite(tmp_path)
    (tmp_path / TESTS).rmdir()
    (tmp_path / TESTS).write_bytes(b" " * (MOST_TESTS_BYTES + 1))
    with pytest.raises(SuiteError, match="larger than"):
        load_suite(tmp_path)
