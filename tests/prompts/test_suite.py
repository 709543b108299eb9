"""A suite's digest changes with everything that can change a result and with nothing else; splits stay."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prompts.assertions.kind import Assertion, Needs
from prompts.suite import Bars, Case, Split, Suite
from prompts.suite_file import parse_suite

HERE = Path("x")
NAMES = st.sampled_from(["a", "b", "c"])
ASSERTIONS = st.sampled_from(
    [
        {"type": "equals", "value": "bug"},
        {"type": "not-contains", "value": "é {{ x }}", "weight": 2, "metric": "form"},
        {
            "type": "json-schema",
            "value": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
        },
        {"type": "number", "value": 3, "tolerance": 0.5},
        {"type": "latency", "threshold": 100},
    ]
)
SCALARS = (
    st.text(st.characters(codec="utf-8", exclude_categories=["C"])) | st.integers(-9, 9) | st.booleans() | st.none()
)
TESTS = st.fixed_dictionaries(
    {
        "vars": st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=3),
        "assert": st.lists(ASSERTIONS, min_size=1, max_size=3),
    },
    optional={"tags": st.lists(NAMES, max_size=2, unique=True), "repeat": st.integers(1, 3)},
)
SUITES = st.lists(
    TESTS, min_size=1, max_size=5, unique_by=lambda test: orjson.dumps(test["vars"], option=orjson.OPT_SORT_KEYS)
)


def shuffled(value: Any, by: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, by)) for key, inner in value.items()]
        by.shuffle(items)
        return dict(items)
    return [shuffled(inner, by) for inner in value] if isinstance(value, list) else value


@given(
    SUITES, st.randoms(use_true_random=False), st.sampled_from([None, '"', "|"]), st.sampled_from([None, True, False])
)
def test_how_a_suite_is_written_does_not_change_its_digest(
    tests: list[Any], by: random.Random, quotes: str | None, flow: bool | None
) -> None:
    """Order of keys and cases, style of YAML, or lines of JSON: one digest."""
    suite = parse_suite(HERE, yaml.safe_dump({"tests": tests}))
    others = shuffled(tests, by)
    by.shuffle(others)
    written = yaml.safe_dump(
        {"tests": others}, default_style=quotes, default_flow_style=flow, allow_unicode=True, sort_keys=False
    )
    as_lines = "\n".join(orjson.dumps(test).decode() for test in others)
    assert parse_suite(HERE, written).digest == suite.digest
    assert parse_suite(HERE, "", as_lines).digest == suite.digest


CASE = Case("a", (Assertion("equals", value="x"), Assertion("contains", value="y")), {"v": 1})
CHANGES: list[dict[str, Any]] = [
    {"id": "b"},
    {"vars": {"v": 2}},
    {"vars": {"v": "1"}},
    {"vars": {"v": 1.0}},
    {"vars": {"v": 1, "w": None}},
    {"messages": ({"role": "user", "content": "hi"},)},
    {"tags": ("t",)},
    {"repeat": 2},
    {"repeat": 2, "min_pass": 2},
    {"threshold": 0.5},
    {"assertions": CASE.assertions[:1]},
    *(
        {"assertions": (replace(CASE.assertions[0], **change), CASE.assertions[1])}
        for change in (
            {"kind": "contains"},
            {"negated": True},
            {"value": "z"},
            {"threshold": 0.5},
            {"tolerance": 0.5},
            {"weight": 2.0},
            {"metric": "m"},
        )
    ),
]


def test_every_change_that_can_change_a_result_changes_the_digest() -> None:
    digests = {Suite((CASE,)).digest, *(Suite((replace(CASE, **change),)).digest for change in CHANGES)}
    assert len(digests) == len(CHANGES) + 1


def test_a_description_and_a_bar_change_no_result() -> None:
    assert Suite((replace(CASE, description="x"),), Bars("0.9")).digest == Suite((CASE,)).digest


@given(SUITES, SUITES)
def test_splits_and_ids_stay_when_cases_are_added_or_their_assertions_change(tests: list[Any], more: list[Any]) -> None:
    before = {case.id: case.split for case in parse_suite(HERE, yaml.safe_dump({"tests": tests})).cases}
    known = [test["vars"] for test in tests]
    changed = [{**test, "assert": [{"type": "is-json"}], "tags": ["new"]} for test in tests]
    added = [test for test in more if test["vars"] not in known]
    after = parse_suite(HERE, yaml.safe_dump({"tests": [*added, *changed]}))
    assert before.items() <= {case.id: case.split for case in after.cases}.items()


def test_splits_are_half_a_quarter_and_a_quarter() -> None:
    suite = Suite(tuple(replace(CASE, id=str(n), vars={"n": n}) for n in range(4_000)))
    shares = [len(suite.only(split).cases) / 4_000 for split in Split]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.03)  # four standard deviations
    assert sum(shares) == 1


def test_a_part_is_a_suite_of_its_own() -> None:
    suite = Suite(tuple(replace(CASE, id=str(n), vars={"n": n}) for n in range(40)))
    assert len({suite.digest, *(suite.only(split).digest for split in Split)}) == 4
    assert suite.only(*Split).digest == suite.digest


def test_a_suite_says_whom_it_asks() -> None:
    assert Suite((CASE,)).needs == frozenset()
    asking = replace(
        CASE, assertions=(Assertion("llm-rubric", value="x"), Assertion("similar", value="x", threshold=1))
    )
    assert Suite((CASE, asking)).needs == {Needs.JUDGE, Needs.EMBEDDER}


@given(st.integers(0, 10**9), st.text(min_size=1))
def test_a_name_does_not_move_a_case_to_another_split(number: int, name: str) -> None:
    """Else who renames one shows the optimiser what it must not see."""
    case = replace(CASE, vars={"n": number})
    assert replace(case, id=name).split == case.split
