"""A draft from examples: what it infers is true of all, its cases are the examples, and it says who wrote what."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.canonical import canonical
from prompts.check import errors
from prompts.files import case_lines
from prompts.render import render
from prompts.scaffold import BadExamples, Example, inferred, read_examples, refused, scaffold
from prompts.schemas import INPUTS, schema_of
from prompts.suite_file import parse_suite

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TICKETS = "\n".join(
    json.dumps({"input": {"ticket": ticket}, "output": queue})
    for ticket, queue in [("The app crashes.", "bug"), ("A refund, please.", "billing")] * 1
    + [("It does not start.", "bug"), ("Wrong invoice.", "billing")]
)


@given(st.lists(JSON, min_size=1, max_size=5))
def test_a_schema_passes_all_values_that_it_was_inferred_from(values: list[Any]) -> None:
    schema = schema_of({"type": "object", "properties": {"x": inferred(values)}}, INPUTS)
    assert all(schema.accepts({"x": value}, 1) for value in values)


@given(
    st.lists(
        st.builds(
            Example,
            st.dictionaries(st.sampled_from(["text", "tone", "n"]), st.text() | st.integers(0, 9), min_size=1),
            JSON,
        ),
        min_size=1,
        max_size=5,
    ),
    st.text(min_size=1),
)
def test_whatever_the_examples_are_the_draft_can_be_served_and_says_each(examples: list[Example], task: str) -> None:
    made = scaffold("a/b", task, examples)
    assert not errors(made.template)
    for example in examples:
        assert render(made.template, None, example.inputs).messages


def test_answers_that_come_again_are_choices_and_the_cases_are_the_examples() -> None:
    made = scaffold("a/b", "Sort tickets", read_examples(TICKETS))
    assert "bug" in made.template.messages[0].content  # type: ignore[union-attr]
    assert made.template.inputs["required"] == ["ticket"]
    assert made.template.inputs["properties"]["ticket"]["x-untrusted"] is True
    suite = parse_suite(Path("a/b"), "gate: {default: 0.8}", case_lines(made.cases))
    assert [case.vars["ticket"] for case in suite.cases][:2] == ["The app crashes.", "A refund, please."]
    assert {a.kind for case in suite.cases for a in case.assertions} == {"equals"}


def test_answers_in_json_get_their_form() -> None:
    lines = '{"input": "Ann, 31", "output": {"name": "Ann", "age": 31}}\n{"input": "Bo", "output": {"name": "Bo"}}'
    made = scaffold("a", "Extract", read_examples(lines))
    assert made.template.response_format is not None
    schema = made.template.response_format["json_schema"]["schema"]
    assert schema["required"] == ["name"]
    assert set(made.template.inputs["properties"]) == {"text"}


def test_free_words_are_not_expected_word_for_word_and_that_is_said() -> None:
    lines = json.dumps({"input": "Hello", "output": "A greeting of the kind that people use for each other."})
    made = scaffold("a", "Explain", read_examples(lines))
    assert made.cases[0]["assert"][0]["type"] == "similar"
    assert "write better assertions" in made.origins["cases"]


def test_who_wrote_what_is_told() -> None:
    examples = read_examples(TICKETS)
    assert "word for word" in scaffold("a", "Sort", examples).origins["instruction"]
    assert scaffold("a", "Sort", examples, "Look at it.", "large").origins["instruction"] == "written by large"
    quoted = scaffold("a", "Sort", examples, "{{ ticket }}", "large")
    assert "template expressions" in quoted.origins["instruction"]
    assert "{{ ticket }}" not in quoted.template.messages[0].content  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "  ", "{{ x }}", "x" * 5000, "As when 'the app crashes', say bug."])
def test_what_a_model_may_not_write_is_not_taken(text: str) -> None:
    assert refused(text, read_examples(TICKETS)) is not None


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ("", "there are no examples"),
        ("nothing", "line 1: not JSON"),
        ('{"input": "a"}', "line 1: an example has input and output"),
        ('{"input": {"a b": 1}, "output": 1}', "no name of a variable"),
        ('{"input": {}, "output": 1}', "name a variable"),
        ('{"input": "a", "output": NaN}', "line 1"),
        ('{"input": {"loop": "a"}, "output": "b"}', "word of the template language"),
    ],
)
def test_bad_examples_are_told_by_line(lines: str, remedy: str) -> None:
    with pytest.raises(BadExamples, match=remedy):
        scaffold("a", "Do it", read_examples(lines))


def test_a_task_with_braces_stays_words() -> None:
    made = scaffold("a", "Fill {{ this }} and {% that %}", read_examples(TICKETS))
    said = render(made.template, None, {"ticket": "x"}).messages[0]["content"]
    assert "Fill {{ this }} and {% that %}" in said
    assert canonical(made.template.inputs)
