"""Whether a text keeps the form that a request asks for."""

from typing import Any

import pytest

from prompts.form import JSON, Form, form_of, forms_of_calls, wants_form, wants_json

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def formatted(**written: Any) -> dict[str, Any]:
    return {"response_format": written}


def offering(*functions: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function} for function in functions]}


@pytest.mark.parametrize(
    ("body", "good", "bad"),
    [
        (formatted(type="json_object"), ['{"a": 1}', "[]", "1"], ["", "{'a': 1}", "```json\n{}\n```", "NaN", '{"a":']),
        (formatted(type="json_schema", json_schema={"schema": SCHEMA}), ['{"n": 1}'], ['{"n": "1"}', "{}", "[]", "{"]),
        (formatted(type="json_schema", json_schema={"schema": {"type": "objekt"}}), ["[]"], ["{"]),
        (formatted(type="json_schema", json_schema={"name": "without one"}), ["[]"], ["{"]),
        (formatted(type="json_schema", json_schema=3), ["[]"], ["{"]),
        (formatted(type="json_schema"), ["[]"], ["{"]),
    ],
)
def test_json_is_json_and_of_its_schema(body: dict[str, Any], good: list[str], bad: list[str]) -> None:
    form = form_of(body)
    assert form is not None
    assert [form.keeps(text) for text in good + bad] == [True] * len(good) + [False] * len(bad)
    assert wants_json(body)
    assert wants_form(body)


@pytest.mark.parametrize("body", [{}, formatted(type="text"), {"response_format": None}, {"response_format": 3}])
def test_any_text_will_do_where_nothing_is_asked(body: dict[str, Any]) -> None:
    assert form_of(body) is None
    assert not wants_form(body)


def test_what_is_too_long_to_be_validated_need_only_be_json() -> None:
    form = form_of(formatted(type="json_schema", json_schema={"schema": SCHEMA}))
    assert form is not None
    assert not form.keeps("[1]")
    assert form.keeps("[" + ",".join("1" * 100_000) + "]")


def test_strict_functions_have_the_form_of_their_parameters() -> None:
    body = offering({"name": "count", "strict": True, "parameters": SCHEMA}, {"name": "say", "parameters": SCHEMA})
    forms = forms_of_calls(body)
    assert set(forms) == {"count", "say"}
    assert (forms["count"].keeps('{"n": 1}'), forms["count"].keeps("{}")) == (True, False)
    assert forms["say"] == JSON  # who does not ask for strictness gets none
    assert wants_form(body)


@pytest.mark.parametrize("body", [{}, {"tools": None}, {"tools": [{"type": "web_search"}]}, offering({"name": "say"})])
def test_without_a_strict_function_there_is_nothing_to_keep(body: dict[str, Any]) -> None:
    assert forms_of_calls(body) == {}
    assert not wants_form(body)


def test_a_strict_function_without_parameters_takes_any_json() -> None:
    assert forms_of_calls(offering({"name": "f", "strict": True}))["f"].keeps("{}")
    assert Form().keeps("{}")
