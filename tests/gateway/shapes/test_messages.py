import contextlib
from typing import Any

import anthropic
import orjson
import pytest
from anthropic import types as sdk
from hypothesis import given
from pydantic import TypeAdapter

from gateway.errors import (
    BodyTooLarge,
    Cut,
    GatewayError,
    Internal,
    InvalidKey,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
)
from gateway.shapes import messages
from gateway.shapes.answer import usage_of
from models.engine import Usage
from tests.gateway.shapes.answers import (
    Document,
    Said,
    answering,
    answers,
    call,
    check_chat,
    chunk,
    completion,
    damaged,
    events,
)

EVENT = TypeAdapter[Any](sdk.RawMessageStreamEvent)
PNG: Document = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PNG_PART: Document = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
WEATHER: Document = {
    "name": "weather",
    "description": "The weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
FULL: Document = {
    "model": "auto",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": PNG},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {
                    "type": "document",
                    "title": "Notes",
                    "source": {"type": "text", "media_type": "text/plain", "data": "notes"},
                },
                {
                    "type": "search_result",
                    "source": "https://example.com",
                    "title": "Found",
                    "content": [{"type": "text", "text": "that"}],
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Look.", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "is_error": True,
                    "content": [{"type": "text", "text": "no map"}, {"type": "image", "source": PNG}],
                },
                {"type": "text", "text": "And now?"},
            ],
        },
    ],
    "tools": [WEATHER],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 8000},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "metadata": {"user_id": "u1"},
    "service_tier": "auto",
    "stream": True,
}
SHORT: Document = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
THINKING: Document = {**SHORT, "thinking": {"type": "adaptive"}}


def test_a_full_request_keeps_roles_ids_images_and_settings() -> None:
    assert messages.to_chat(FULL) == {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    PNG_PART,
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "text", "text": "Notes"},
                    {"type": "text", "text": "notes"},
                    {"type": "text", "text": "Found (https://example.com):\nthat"},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me see.",
                "reasoning_content": "Look.",
                "tool_calls": [call("t1", "weather", '{"city":"Bern"}'), call("t2", "weather", "{}")],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
            {
                "role": "tool",
                "tool_call_id": "t2",
                "content": [{"type": "text", "text": "Error:"}, {"type": "text", "text": "no map"}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "From the result of t2:"},
                    PNG_PART,
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "The weather",
                    "parameters": WEATHER["input_schema"],
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "medium",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
        },
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "user": "u1",
        "max_completion_tokens": 100,
        "stream": True,
    }


def test_a_short_request_asks_for_nothing_that_was_not_asked() -> None:
    assert messages.to_chat(SHORT) == {
        "model": "auto",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 5,
    }


CHOICES: list[tuple[Document, Any]] = [
    ({"type": "auto"}, "auto"),
    ({"type": "any"}, "required"),
    ({"type": "none"}, "none"),
    ({"type": "tool", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
]


@pytest.mark.parametrize(("choice", "chosen"), CHOICES)
def test_a_choice_of_tools_is_carried_over(choice: Document, chosen: Any) -> None:
    assert messages.to_chat({**SHORT, "tools": [WEATHER], "tool_choice": choice})["tool_choice"] == chosen


EFFORTS: list[tuple[Document, str | None]] = [
    ({"thinking": {"type": "disabled"}}, "none"),
    ({"thinking": {"type": "adaptive"}}, None),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
    ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium"),
    ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high"),
    ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "high"}}, "high"),
]


@pytest.mark.parametrize(("asked", "effort"), EFFORTS)
def test_thinking_is_asked_for_as_effort(asked: Document, effort: str | None) -> None:
    assert messages.to_chat({**SHORT, **asked}).get("reasoning_effort") == effort


def user(**block: Any) -> Document:
    return {"messages": [{"role": "user", "content": [block]}]}


def assistant(**block: Any) -> Document:
    return {"messages": [{"role": "assistant", "content": [block]}]}


PDF: Document = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
WRONG: list[tuple[Document, str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (user(type="input_text", text="a"), "messages[0].content[0].type"),
    (user(type="text"), "messages[0].content[0].text"),
    (user(type="tool_use", id="a", name="b", input={}), "messages[0].content[0].type"),
    (user(type="tool_result", tool_use_id="x", content="a"), "messages[0].content[0].tool_use_id"),
    (user(type="image"), "messages[0].content[0].source"),
    (user(type="image", source={"type": "file", "file_id": "f"}), "messages[0].content[0].source.type"),
    (user(type="image", source={**PNG, "media_type": "image/bmp"}), "messages[0].content[0].source.media_type"),
    (user(type="document", source=PDF), "messages[0].content[0].source.type"),
    (assistant(type="image", source=PNG), "messages[0].content[0].type"),
    (assistant(type="server_tool_use", id="a", name="web_search", input={}), "messages[0].content[0].type"),
    (assistant(type="tool_use", id="a", name="b", input="{}"), "messages[0].content[0].input"),
    ({"system": 5}, "system"),
    ({"system": [{"type": "image", "source": PNG}]}, "system[0].type"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
    ({"tools": [WEATHER], "tool_choice": "auto"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
    ({"stop_sequences": ["a", "b", "c", "d", "e"]}, "stop_sequences"),
    ({"stop_sequences": [5]}, "stop_sequences"),
    ({"temperature": 1.5}, "temperature"),
    ({"top_k": 0.5}, "top_k"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "on"}}, "thinking.type"),
    ({"output_config": {"effort": "all"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id"),
    ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"),
]


@pytest.mark.parametrize(("odd", "param"), WRONG)
def test_names_the_parameter_that_is_wrong(odd: Document, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages.to_chat({**SHORT, **odd})
    assert refused.value.param == param
    assert param in refused.value.message


@given(damaged([FULL, SHORT, THINKING]))
def test_whatever_is_wrong_is_refused_or_asked(body: Document) -> None:
    with contextlib.suppress(InvalidRequest):
        check_chat(messages.to_chat(body))
        document = messages.from_chat(completion(content="Hi"), body, id="msg_1", created=1)
        sdk.Message.model_validate(document)


def test_a_conversation_goes_on_with_what_was_answered() -> None:
    message: Document = {"content": "Wait.", "reasoning_content": "Hm.", "tool_calls": [call("t1", "weather", "{}")]}
    answer = messages.from_chat(completion("tool_calls", **message), THINKING, id="msg_1", created=1)
    result = {"type": "tool_result", "tool_use_id": "t1"}
    turns = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [result]}]
    assert messages.to_chat({**SHORT, "messages": turns}, SHORT["messages"])["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", **message},
        {"role": "tool", "tool_call_id": "t1", "content": ""},
    ]


def streamed(asked: Document, chunks: list[Document], usage: Usage | None) -> tuple[bytes, Document]:
    stream = messages.Stream(asked, id="msg_1", created=1, model="small")
    raw = [stream.begin(), *map(stream.feed, chunks), stream.end(usage)]
    return b"".join(raw), stream.result()


def assembled(raw: bytes) -> Document:
    """The message that a client makes of the events, after checking that they are well-formed."""
    start, *middle, delta, stop = events(raw)
    assert [start["type"], delta["type"], stop["type"]] == ["message_start", "message_delta", "message_stop"]
    message: Document = start["message"]
    assert (message["content"], message["stop_reason"]) == ([], None)
    block: Document | None = None
    written = ""
    for event in middle:
        if event["type"] == "content_block_start":
            assert block is None
            block, written = event["content_block"], ""
            message["content"].append(block)
        elif event["type"] == "content_block_delta":
            assert block is not None
            key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[
                event["delta"]["type"]
            ]
            written += event["delta"][key]
        else:
            assert event["type"] == "content_block_stop"
            assert block is not None
            if block["type"] == "tool_use":
                block["input"] = orjson.loads(written or "{}")
            else:
                block[block["type"]] = written
            block = None
        assert event["index"] == len(message["content"]) - 1
    assert block is None
    return {**message, **delta["delta"], "usage": delta["usage"]}


@pytest.mark.parametrize("asked", [SHORT, THINKING], ids=["without thinking", "with thinking"])
@given(said=answers())
def test_what_is_streamed_is_what_is_answered_whole(asked: Document, said: Said) -> None:
    raw, result = streamed(asked, said.chunks, usage_of(said.whole))
    whole = messages.from_chat(said.whole, asked, id="msg_1", created=1)
    assert assembled(raw) == result == whole
    sdk.Message.model_validate(whole, strict=True)
    for event in events(raw):
        EVENT.validate_python(event, strict=True)


@given(answers())
def test_the_official_client_reads_the_same(said: Said) -> None:
    raw, result = streamed(THINKING, said.chunks, usage_of(said.whole))
    asked: Any = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    with anthropic.Anthropic(api_key="k", http_client=answering(raw, streamed=True)) as client:
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message().to_dict(mode="json")
        assert without_parsed(final) == result
    with anthropic.Anthropic(api_key="k", http_client=answering(orjson.dumps(result), streamed=False)) as client:
        assert client.messages.create(**asked).to_dict(mode="json") == result


def without_parsed(read: Any) -> Any:
    """What the client read, without what it parsed from it."""
    if isinstance(read, dict):
        return {k: without_parsed(v) for k, v in read.items() if k != "parsed_output"}
    return [without_parsed(inner) for inner in read] if isinstance(read, list) else read


def test_thinking_is_shown_only_to_those_who_asked() -> None:
    whole = completion(content="Hi", reasoning="Hm.")
    for thinking in (None, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"}):
        answer = messages.from_chat(whole, {**SHORT, "thinking": thinking}, id="msg_1", created=1)
        assert [block["type"] for block in answer["content"]] == ["text"]
    answer = messages.from_chat(whole, THINKING, id="msg_1", created=1)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]


STOPS: list[tuple[Document, str, str | None]] = [
    (completion("stop", content="Hi"), "end_turn", None),
    (completion("length", content="Hi"), "max_tokens", None),
    (completion("content_filter", content="Hi"), "refusal", None),
    (completion("stop", content=None, refusal="I will not."), "refusal", None),
    (completion("tool_calls", content=None, tool_calls=[call("t1", "f", "{}")]), "tool_use", None),
    (completion("stop", content=None, tool_calls=[call("t1", "f", "{}")]), "tool_use", None),
]


@pytest.mark.parametrize(("whole", "reason", "sequence"), STOPS)
def test_says_why_it_stopped(whole: Document, reason: str, sequence: str | None) -> None:
    answer = messages.from_chat(whole, {**SHORT, "stop_sequences": ["END"]}, id="msg_1", created=1)
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)


@pytest.mark.parametrize(("stopped_by", "reason"), [("END", "stop_sequence"), ("other", "end_turn"), (7, "end_turn")])
def test_names_the_stop_sequence_where_the_engine_does(stopped_by: Any, reason: str) -> None:
    whole = completion("stop", content="Hi")
    whole["choices"][0]["stop_reason"] = stopped_by
    answer = messages.from_chat(whole, {**SHORT, "stop_sequences": ["END"]}, id="msg_1", created=1)
    assert answer["stop_reason"] == reason
    assert answer["stop_sequence"] == (stopped_by if reason == "stop_sequence" else None)


def test_tokens_from_the_cache_are_counted_beside_the_others() -> None:
    answer = messages.from_chat(completion(content="Hi"), SHORT, id="msg_1", created=1)
    assert answer["usage"] == {
        "input_tokens": 20,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 0,
        "output_tokens": 12,
        "output_tokens_details": {"thinking_tokens": 5},
    }


@pytest.mark.parametrize("arguments", ['{"city": "Be', "[1]", "so"])
def test_arguments_that_are_no_object_are_wrapped(arguments: str) -> None:
    whole = completion("length", content=None, tool_calls=[call("t1", "f", arguments)])
    (block,) = messages.from_chat(whole, SHORT, id="msg_1", created=1)["content"]
    assert block["input"] == {"INVALID_JSON": arguments}


ERRORS: list[tuple[GatewayError, str]] = [
    (InvalidRequest("a"), "invalid_request_error"),
    (InvalidKey("a"), "authentication_error"),
    (ModelNotFound("a"), "not_found_error"),
    (BodyTooLarge("a"), "request_too_large"),
    (Overloaded("a"), "overloaded_error"),
    (Cut("a"), "api_error"),
    (Internal("a"), "api_error"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_an_error_is_anthropics(error: GatewayError, kind: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "a"}, "request_id": "req_1"}
    assert messages.error_body(error, "req_1") == body


def test_an_answer_that_breaks_off_raises_in_the_official_client() -> None:
    stream = messages.Stream(SHORT, id="msg_1", created=1, model="small")
    raw = stream.begin() + stream.feed(chunk(content="Half an ans")) + stream.fail(Overloaded("the engine broke off"))
    asked: Any = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    with (
        anthropic.Anthropic(api_key="k", http_client=answering(raw, streamed=True)) as client,
        client.messages.stream(**asked) as read,
        pytest.raises(anthropic.APIStatusError, match="the engine broke off"),
    ):
        read.get_final_message()
    assert stream.result()["content"][0]["text"] == "Half an ans"
    assert stream.result()["stop_reason"] is None
