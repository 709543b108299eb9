"""Every case is in one stratum of each variable, and there are never many."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from prompts.assertions.kind import Assertion
from prompts.strata import MOST_VALUES, OTHERS, strata
from prompts.suite import Case, Suite
from prompts.template import Routing, Template, Text

INPUTS = {"type": "object", "properties": {"product": {"type": "string", "default": "core"}, "n": {"type": "integer"}}}
YES = (Assertion("equals", value="yes"),)


def template(*by: str) -> Template:
    return Template("t", (Text("user", "{{ n }}"),), INPUTS, routing=Routing(stratify_by=by))


def suite(*of: dict[str, Any]) -> Suite:
    return Suite(tuple(Case(f"c{place}", YES, said) for place, said in enumerate(of)))


def test_cases_are_told_apart_by_each_variable_that_the_template_names() -> None:
    cases = suite({"product": "core", "n": 1}, {"n": 2}, {"product": "app"})
    assert strata(template(), cases) == {}
    assert strata(template("product", "n"), cases) == {
        "product=core": {"c0", "c1"},  # its default
        "product=app": {"c2"},
        "n=1": {"c0"},
        "n=2": {"c1"},
        "n=none": {"c2"},
    }


@given(st.lists(st.text(max_size=40) | st.integers(0, 50), max_size=60))
def test_every_case_is_in_one_stratum_and_there_are_no_more_than_the_most(values: list[str | int]) -> None:
    cases = suite(*({"product": value} for value in values))
    found = strata(template("product"), cases)
    assert sorted(case for of in found.values() for case in of) == sorted(case.id for case in cases.cases)
    assert len(found) <= MOST_VALUES
    assert all(found.values())
    assert any(OTHERS in name for name in found) == (len(found) == MOST_VALUES and _values(values) > MOST_VALUES)


def _values(values: list[str | int]) -> int:
    """As they are shown: cut short, and a number as it is written."""
    return len({f"{value}"[:24] + "..." * (len(f"{value}") > 24) for value in values})
