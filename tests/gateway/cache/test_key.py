"""Two requests are the same when nothing that can change the answer differs, and only then."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.key import exact_key, holder_of, is_repeatable, likeness_key, looks_outside
from gateway.keys import Caller
from tests.gateway.cache.worlds import SYSTEM, asked, model


def key(holder: str = "caller:a", **fields: Any) -> str | None:
    return exact_key(holder, model(), asked(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "somebody", "safety_identifier": "x"},
        {"metadata": {"a": "b"}, "store": True},
        {"model": "small"},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_how_an_answer_is_sent_and_noted_does_not_matter(fields: dict[str, Any]) -> None:
    assert key(**fields) == key()


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5},
        {"temperature": 0.0, "seed": 1},
        {"n": 2},
        {"text": "hello "},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"a_field_of_one_engine": 1},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_whatever_may_change_the_answer_matters(fields: dict[str, Any]) -> None:
    assert key(**fields) != key()


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_fields_does_not_matter(order: list[str]) -> None:
    one: dict[str, Any] = {name: {"x": 1, "y": 2} for name in order}
    other: dict[str, Any] = {name: {"y": 2, "x": 1} for name in "abcd"}
    assert key(**one) == key(**other)


def test_another_build_or_another_model_is_another_key() -> None:
    one = exact_key("caller:a", model(), asked())
    assert exact_key("caller:a", model(url="http://two/v1"), asked()) != one
    assert exact_key("caller:a", model("other"), asked()) != one


def test_callers_share_only_when_they_are_of_a_team_that_does() -> None:
    ann, bob, eve = Caller("a", "ann", team="t"), Caller("b", "bob", team="t"), Caller("t", "eve")
    assert len({holder_of(caller, "caller") for caller in (ann, bob, eve)}) == 3
    assert holder_of(ann, "team") == holder_of(bob, "team") != holder_of(eve, "team")


def test_a_body_too_deep_to_be_written_has_no_key() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    request = asked()
    request.body["odd"] = deep
    assert exact_key("caller:a", model(), request) is None


@pytest.mark.parametrize(
    ("fields", "repeatable"),
    [({}, True), ({"temperature": 0.0}, True), ({"temperature": 0.1}, False), ({"temperature": None}, False)],
)
def test_only_what_leaves_nothing_to_chance_is_the_same_again(fields: dict[str, Any], repeatable: bool) -> None:
    assert is_repeatable(asked(**fields)) is repeatable
    assert is_repeatable(asked(**fields, seed=1))


def test_an_answer_that_depends_on_what_stands_at_an_address_is_not_kept() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/now.png"}}
    assert looks_outside(asked(messages=[{"role": "user", "content": [picture]}]))
    assert looks_outside(asked(web_search_options={}))
    assert not looks_outside(asked())


def likeness(**fields: Any) -> str | None:
    return likeness_key("caller:a", model(), asked(**fields))


def test_prompts_alike_differ_in_their_varying_text_only() -> None:
    assert likeness(text="one") == likeness(text="two")
    assert likeness(text="one") != likeness(text="one", max_tokens=5)
    other = [{**SYSTEM, "content": "Be rude."}, {"role": "user", "content": "one"}]
    assert likeness(messages=other) != likeness(text="one")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}],
        [{"role": "assistant", "content": "", "tool_calls": [{}]}],
        [{"role": "user", "content": "a"}] * 5,
        [SYSTEM],
    ],
    ids=["a picture", "a call", "more turns than are read", "nothing varies"],
)
def test_what_more_than_text_tells_apart_is_never_alike(messages: list[Any]) -> None:
    assert likeness(messages=messages) is None
