"""What is fixed in a request, what varies, and that the template's name depends on the first alone."""

import copy
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.message import VARYING_TURNS, fixed_text, template_key, text_of, varying_text

KEY_LENGTH = 16
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=8)}) | json_values, max_size=3
)
contents = st.none() | st.text(max_size=20) | parts
fixed_messages = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": contents})
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "function"])},
    optional={"content": contents, "name": json_values, "tool_calls": json_values, "tool_call_id": st.text(max_size=4)},
)
bodies = st.fixed_dictionaries(
    {"messages": st.lists(fixed_messages | turns, max_size=6)},
    optional={"tools": st.none() | st.lists(json_values, max_size=2), "response_format": st.none() | json_values},
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": "plain"}, "plain"),
        ({"role": "user", "content": ""}, ""),
        ({"role": "user", "content": None}, ""),
        ({"role": "assistant", "tool_calls": []}, ""),
        ({"role": "user", "content": []}, ""),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}, {"text": "b"}]}, "b"),
        ({"role": "user", "content": [{"type": "text", "text": None}, {"type": "text", "text": 3}, "loose", 7]}, ""),
    ],
)
def test_text_of_joins_the_text_parts_and_nothing_else(message: dict[str, Any], text: str) -> None:
    assert text_of(message) == text


def test_fixed_text_is_that_of_system_and_developer_messages_in_order() -> None:
    messages = [_says("system", "one"), _says("user", "two"), _says("developer", "three"), _says("assistant", "four")]

    assert fixed_text(messages) == "one\nthree"


def test_varying_text_is_that_of_the_last_turns() -> None:
    messages = [_says("system", "fixed"), *(_says("user", str(turn)) for turn in range(VARYING_TURNS + 2))]

    assert varying_text(messages) == "2\n3\n4\n5"


def test_fixed_and_varying_text_of_no_messages_are_empty() -> None:
    assert (fixed_text([]), varying_text([])) == ("", "")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": "hello"}]},
        {"messages": [{"role": "user", "content": "hello"}], "tools": None, "response_format": None},
        {"messages": [{"role": "user", "content": "hello"}], "tools": []},
    ],
)
def test_a_request_without_a_fixed_part_has_no_template(body: dict[str, Any]) -> None:
    assert template_key(body) is None


def test_template_key_is_the_same_in_every_process_and_release() -> None:
    """Evidence in a ledger is bound to this name: a change of it throws the evidence away."""
    assert template_key(_body()) == "613f1a6247520e35"


@given(bodies)
def test_template_key_is_hexadecimal_or_none_for_any_body(body: dict[str, Any]) -> None:
    key = template_key(body)

    assert key is None or (len(key) == KEY_LENGTH and set(key) <= set(string.hexdigits.lower()))


@given(bodies)
def test_texts_exist_for_any_messages(body: dict[str, Any]) -> None:
    assert isinstance(fixed_text(body["messages"]), str)
    assert isinstance(varying_text(body["messages"]), str)


@given(bodies, st.lists(turns, max_size=4))
def test_template_key_does_not_depend_on_the_turns(body: dict[str, Any], other_turns: list[dict[str, Any]]) -> None:
    fixed = [m for m in body["messages"] if m["role"] in ("system", "developer")]

    assert template_key({**body, "messages": [*other_turns, *fixed]}) == template_key(body)
    assert template_key({**body, "messages": [*fixed, *other_turns]}) == template_key(body)


@given(bodies)
def test_template_key_does_not_depend_on_the_order_of_keys(body: dict[str, Any]) -> None:
    assert template_key(_reversed(body)) == template_key(body)


@given(bodies, st.dictionaries(st.sampled_from(["model", "temperature", "seed", "user", "max_tokens"]), json_values))
def test_template_key_does_not_depend_on_sampling(body: dict[str, Any], sampling: dict[str, Any]) -> None:
    assert template_key({**body, **sampling}) == template_key(body)


@given(bodies)
def test_template_key_leaves_the_body_as_it_is(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    template_key(body)

    assert body == before


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "system", "content": "Translate into French."}]},
        {"messages": [{"role": "developer", "content": "Translate into German."}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "Translate into German."}]}]},
        {"messages": [{"role": "system", "content": "Translate into German."}, {"role": "system", "content": "Now."}]},
        {"messages": []},
        {"tools": None},
        {"tools": [{"type": "function", "function": {"name": "look_away"}}]},
        {"response_format": None},
        {"response_format": {"type": "json_schema"}},
    ],
)
def test_template_key_depends_on_each_fixed_thing(change: dict[str, Any]) -> None:
    assert template_key({**_body(), **change}) != template_key(_body())


@given(fixed=st.lists(fixed_messages, min_size=1, max_size=3), other=st.lists(fixed_messages, min_size=1, max_size=3))
def test_different_fixed_messages_have_different_keys(fixed: list[Any], other: list[Any]) -> None:
    """Written text is compared, since 1, 1.0 and True are equal to Python and different to a model."""
    same = repr(_sorted(fixed)) == repr(_sorted(other))

    assert (template_key({"messages": fixed}) == template_key({"messages": other})) == same


@pytest.mark.parametrize("levels", [100, 900, 1020])
def test_a_deeply_nested_tool_is_no_error(levels: int) -> None:
    tool: dict[str, Any] = {}
    for _ in range(levels):
        tool = {"a": tool}

    template_key({"messages": [], "tools": [tool]})


def _says(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _body() -> dict[str, Any]:
    return {
        "messages": [_says("system", "Translate into German."), _says("user", "It rains.")],
        "tools": [{"type": "function", "function": {"name": "look_up"}}],
        "response_format": {"type": "json_object"},
    }


def _reversed(value: Any) -> Any:
    """*value* with every dict's keys the other way round."""
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
