"""An answer told as a stream and put together again is the same answer."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.answers import Strange, assembled, told
from models.engine import Operation, Usage
from tests.gateway.guardrails.replies import delta, documents_of, event

USAGE = Usage(3, 4, cached_tokens=1, reasoning_tokens=2)
COUNTS = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
FRAME = {"id": "chatcmpl-1", "created": 1, "model": "m", "system_fingerprint": "f"}

names = st.text("abc", min_size=1, max_size=4)
calls = st.lists(
    st.builds(
        lambda id, name, arguments: {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}},
        names,
        names,
        st.text(max_size=8),
    ),
    min_size=1,
    max_size=3,
)
entries = st.lists(
    st.builds(lambda t: {"token": t, "logprob": -0.5, "top_logprobs": []}, names), min_size=1, max_size=3
)
messages = st.builds(
    lambda content, more: {"role": "assistant", "content": content, **more},
    st.none() | st.text(min_size=1),
    st.fixed_dictionaries({}, optional={"tool_calls": calls, "reasoning_content": names, "refusal": names}),
)
choices = st.builds(
    lambda message, finish, logprobs: {"message": message, "finish_reason": finish, "logprobs": logprobs},
    messages,
    st.sampled_from(["stop", "tool_calls", "length"]),
    st.none() | st.builds(lambda e: {"content": e, "refusal": None}, entries),
)


@given(st.lists(choices, min_size=1, max_size=3))
def test_a_chat_answer_survives_its_other_form(said: list[dict[str, Any]]) -> None:
    numbered = [{"index": place, **choice} for place, choice in enumerate(said)]
    document = {**FRAME, "object": "chat.completion", "choices": numbered, "usage": COUNTS}
    blocks = told(document, Operation.CHAT, include_usage=True)
    assert assembled(blocks, Operation.CHAT, USAGE) == document


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_text_completion_survives_its_other_form(texts: list[str]) -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
    said = [{"index": i, "text": t, "finish_reason": "stop", "logprobs": logprobs} for i, t in enumerate(texts)]
    document = {**FRAME, "object": "text_completion", "choices": said, "usage": COUNTS}
    assert assembled(told(document, Operation.COMPLETION, include_usage=True), Operation.COMPLETION, USAGE) == document


def test_counts_are_told_only_when_they_are_asked_for() -> None:
    said = [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]
    document = {**FRAME, "object": "chat.completion", "choices": said, "usage": COUNTS}
    plain = documents_of(told(document, Operation.CHAT, include_usage=False))
    asked = documents_of(told(document, Operation.CHAT, include_usage=True))
    assert all("usage" not in chunk for chunk in plain)
    assert asked[: len(plain)] == plain
    assert (asked[-1]["choices"], asked[-1]["usage"]) == ([], COUNTS)
    assert {chunk["object"] for chunk in asked} == {"chat.completion.chunk"}


def test_what_engines_send_in_many_pieces_is_put_together() -> None:
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"a"', ": 1}")]
    blocks = [
        event(delta(role="assistant", content="")) + event(delta(content="so ")),
        event(delta(content="it is", tool_calls=[first])),
        *(event(delta(tool_calls=[piece])) for piece in more),
        event(delta("tool_calls", content=None)),
    ]
    document = assembled(blocks, Operation.CHAT, USAGE)
    [choice] = document["choices"]
    assert choice["message"]["content"] == "so it is"
    assert choice["message"]["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert (choice["finish_reason"], document["object"]) == ("tool_calls", "chat.completion")
    assert document["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert orjson.dumps(document)


@pytest.mark.parametrize(
    "blocks",
    [
        [event(usage=COUNTS)],
        [event(delta(audio={"data": "x"}))],
        [event(delta(tool_calls=[{"index": 1}]))],
        [event(delta(tool_calls=[{"id": "without a place"}]))],
    ],
    ids=["no choice", "sound", "a gap", "no index"],
)
def test_what_cannot_be_put_together_is_said_to_be_strange(blocks: list[bytes]) -> None:
    with pytest.raises(Strange):
        assembled(blocks, Operation.CHAT, USAGE)
