"""Bodies in, documents out: what is asked for and cannot be done is refused by the field's name."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from models.transformers.wire import Answer, Asked, Count, Piece, Refused, asked_of

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
PIECES = [Piece("Hel", "Hel", -0.5, [("Hel", -0.5), ("Hi", -1.0)]), Piece("lo", "lo", 0.0)]


def test_what_is_not_said_has_openais_defaults() -> None:
    asked = asked_of(HELLO, chats=True)

    assert (asked.temperature, asked.top_p, asked.max_tokens, asked.logprobs) == (1.0, 1.0, None, None)
    assert asked.chats


def test_a_developer_is_the_system_and_parts_of_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = asked_of({"messages": [{"role": "developer", "content": parts}]}, chats=True)

    assert list(asked.prompt) == [{"role": "system", "content": "ab"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0]"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "x"}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": 5}, "stream_options"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as refused:
        asked_of({**HELLO, **fields}, chats=True)

    assert refused.value.param == param
    assert str(refused.value).startswith(f"{param}: ")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["messages", "prompt", "max_tokens", "temperature", "stop", "logprobs", "top_logprobs", "seed", "n", "tools"]


@given(json | st.dictionaries(st.sampled_from(FIELDS), json), st.booleans())
def test_any_body_is_taken_or_refused(body: Any, chats: bool) -> None:
    with suppress(Refused):
        assert isinstance(asked_of(body, chats=chats), Asked)


def told(**fields: Any) -> Answer:
    return Answer(asked_of({**HELLO, **fields}, chats=True), "m", Count(3, 2))


def test_a_whole_answer_is_what_the_sdk_reads() -> None:
    answer = ChatCompletion.model_validate(told(logprobs=True, top_logprobs=2).whole("Hello", PIECES, "stop"))

    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert [token.token for token in answer.choices[0].logprobs.content] == ["Hel", "lo"]
    assert [other.token for other in answer.choices[0].logprobs.content[0].top_logprobs] == ["Hel", "Hi"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5


def test_a_streamed_answer_is_what_the_sdk_reads() -> None:
    answer = told(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    documents = [answer.chunk("Hel", PIECES[:1]), answer.chunk("lo", PIECES[1:]), answer.last("stop"), answer.usage()]
    chunks = [ChatCompletionChunk.model_validate(document) for document in documents]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
    assert chunks[2].choices[0].finish_reason == "stop"
    assert all(chunk.usage for chunk in chunks)
    assert chunks[3].choices == []


def test_a_completion_is_what_the_sdk_reads() -> None:
    asked = asked_of({"prompt": ["Say"], "logprobs": 1}, chats=False)
    answer = Completion.model_validate(Answer(asked, "m", Count(1, 2)).whole("Hello", PIECES, "length"))

    assert answer.choices[0].text == "Hello"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.text_offset == [0, 3]
