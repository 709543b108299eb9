import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest
from hypothesis import given
from openai.types import responses as sdk
from openai.types.responses.response_item import ResponseItem
from pydantic import TypeAdapter

from gateway.errors import Cut, GatewayError, InvalidRequest, Overloaded
from gateway.shapes import responses
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

PNG = "data:image/png;base64,iVBORw0KGgo="
EVENT = TypeAdapter[Any](sdk.ResponseStreamEvent)
ITEM = TypeAdapter[Any](ResponseItem)
NOTES = f"data:text/plain;base64,{base64.b64encode(b'notes').decode()}"
WEATHER: Document = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
SCHEMA: Document = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}
FULL: Document = {
    "model": "auto",
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "In English."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_file", "filename": "notes.txt", "file_data": NOTES},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Look."}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"city":"Bern"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "a map"}, {"type": "input_image", "image_url": PNG}],
        },
        {"role": "user", "content": "And now?"},
    ],
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "name": "weather"},
    "text": {"format": SCHEMA, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    "top_logprobs": 2,
    "max_output_tokens": 100,
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "top_p": 0.9,
    "metadata": {"team": "a"},
    "store": False,
    "stream": True,
    "truncation": "auto",
    "service_tier": "auto",
    "user": "u1",
    "top_k": 40,
}
BODIES: list[Document] = [
    FULL,
    {"model": "auto", "input": "Hello"},
    {**FULL, "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [WEATHER]}, "text": {}},
]

# Every key that OpenAI's and Open Responses' schemas require, nullable or not, and what openai-python knows beside.
KEYS = frozenset(
    """id object created_at completed_at status background error incomplete_details instructions max_output_tokens
    max_tool_calls metadata model output parallel_tool_calls presence_penalty frequency_penalty previous_response_id
    prompt prompt_cache_key reasoning safety_identifier service_tier store temperature text tool_choice tools
    top_logprobs top_p truncation usage user""".split()  # noqa: SIM905  # one name a line would be thirty lines
)


def test_a_full_request_keeps_roles_ids_images_and_settings() -> None:
    schema = {key: value for key, value in SCHEMA.items() if key != "type"}
    function = {key: value for key, value in WEATHER.items() if key != "type"}
    assert responses.to_chat(FULL) == {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "In English."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                    {"type": "text", "text": "notes.txt:\nnotes"},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me see.",
                "reasoning_content": "Look.",
                "tool_calls": [call("c1", "weather", '{"city":"Bern"}'), call("c2", "weather", "{}")],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "c2", "content": "a map"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "From the result of c2:"},
                    {"type": "image_url", "image_url": {"url": PNG}},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": schema},
        "verbosity": "low",
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 2,
        "max_completion_tokens": 100,
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "metadata": {"team": "a"},
        "stream": True,
        "service_tier": "auto",
        "user": "u1",
        "top_k": 40,
    }


def test_a_short_request_asks_for_nothing_that_was_not_asked() -> None:
    assert responses.to_chat({"model": "auto", "input": "Hi", "previous_response_id": None}) == {
        "model": "auto",
        "messages": [{"role": "user", "content": "Hi"}],
    }


OTHER = {**WEATHER, "name": "other"}
CHOICES: list[tuple[Any, list[str], Any]] = [
    ("auto", ["weather", "other"], "auto"),
    ("none", ["weather", "other"], "none"),
    ("required", ["weather", "other"], "required"),
    ({"type": "allowed_tools", "mode": "required", "tools": [OTHER]}, ["other"], "required"),
    ({"type": "allowed_tools", "mode": "auto", "tools": []}, [], None),
]


@pytest.mark.parametrize(("choice", "names", "chosen"), CHOICES)
def test_a_choice_of_tools_is_carried_over(choice: Any, names: list[str], chosen: Any) -> None:
    chat = responses.to_chat({"input": "Hi", "tools": [WEATHER, OTHER], "tool_choice": choice})
    assert [tool["function"]["name"] for tool in chat.get("tools", [])] == names
    assert chat.get("tool_choice") == chosen


def test_a_choice_among_no_tools_is_not_passed_on() -> None:
    chat = responses.to_chat({"input": "Hi", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True})
    assert set(chat) == {"messages"}


def user(**part: Any) -> Document:
    return {"input": [{"role": "user", "content": [part]}]}


WRONG: list[tuple[Document, str]] = [
    ({}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["a"]}, "input[0]"),
    ({"input": [{"content": "a"}]}, "input[0].type"),
    ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
    ({"input": [{"type": "function_call_output", "call_id": "x", "output": "a"}]}, "input[0].call_id"),
    ({"input": [{"type": "item_reference", "id": "msg_9"}]}, "input[0].id"),
    (user(type="text", text="a"), "input[0].content[0].type"),
    (user(type="input_text"), "input[0].content[0].text"),
    (user(type="input_image", file_id="file_1"), "input[0].content[0].image_url"),
    (user(type="input_image", image_url=PNG, detail="most"), "input[0].content[0].detail"),
    (user(type="input_file", file_id="file_1"), "input[0].content[0].file_data"),
    (user(type="input_file", file_data="data:application/pdf;base64,AAAA"), "input[0].content[0].file_data"),
    (user(type="input_file", file_data="data:text/plain;base64,?"), "input[0].content[0].file_data"),
    (user(type="input_file", file_data="data:text/plain;base64,/w=="), "input[0].content[0].file_data"),
    ({"input": "a", "instructions": ["b"]}, "instructions"),
    ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"input": "a", "tools": [{"type": "function"}]}, "tools[0].name"),
    ({"input": "a", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
    ({"input": "a", "tools": [WEATHER], "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    ({"input": "a", "tool_choice": "required"}, "tool_choice"),
    ({"input": "a", "tool_choice": "sometimes"}, "tool_choice"),
    ({"input": "a", "text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"input": "a", "text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
    ({"input": "a", "max_output_tokens": True}, "max_output_tokens"),
    ({"input": "a", "temperature": "hot"}, "temperature"),
    ({"input": "a", "top_logprobs": 21}, "top_logprobs"),
    ({"input": "a", "include": ["everything"]}, "include[0]"),
    ({"input": "a", "reasoning": {"effort": "all"}}, "reasoning.effort"),
    ({"input": "a", "reasoning": {"summary": "all"}}, "reasoning.summary"),
    ({"input": "a", "truncation": "some"}, "truncation"),
    ({"input": "a", "metadata": {"a": 1}}, "metadata"),
    ({"input": "a", "metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ({"input": "a", "conversation": "conv_1"}, "conversation"),
    ({"input": "a", "background": True}, "background"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_names_the_parameter_that_is_wrong(body: Document, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        responses.to_chat(body)
    assert refused.value.param == param
    assert param in refused.value.message


def test_says_which_tool_is_not_available() -> None:
    with pytest.raises(InvalidRequest, match="'web_search' is not available here; available: function"):
        responses.to_chat({"input": "a", "tools": [{"type": "web_search"}]})


def test_refuses_what_is_nested_too_deep_to_be_repeated() -> None:
    deep: Document = {}
    for _ in range(240):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        responses.to_chat({"input": "a", "tools": [{**WEATHER, "parameters": deep}]})


def test_a_prompt_may_stand_for_the_input() -> None:
    prompt = {"id": "triage", "variables": {"text": "a"}}
    assert responses.to_chat({"prompt": prompt}) == {"prompt": prompt, "messages": []}


@given(damaged(BODIES))
def test_whatever_is_wrong_is_refused_or_asked(body: Document) -> None:
    with contextlib.suppress(InvalidRequest):
        check_chat(responses.to_chat(body), may_be_empty="prompt" in body)
        document = responses.from_chat(completion(content="Hi"), body, id="resp_1", created=1)
        sdk.Response.model_validate(document)
        for item in responses.items_of(body, document):
            ITEM.validate_python(item)


def test_a_response_that_follows_begins_with_what_was_said() -> None:
    first: Document = {"input": "What is 2 + 2?", "instructions": "Add.", "tools": [WEATHER]}
    message: Document = {"content": "Wait.", "reasoning_content": "Hm.", "tool_calls": [call("c1", "weather", "{}")]}
    answer = responses.from_chat(completion("tool_calls", **message), first, id="resp_1", created=1)
    history = responses.items_of(first, answer)
    follow: Document = {
        "previous_response_id": "resp_1",
        "input": [
            {"type": "item_reference", "id": answer["output"][0]["id"]},
            {"type": "function_call_output", "call_id": "c1", "output": "4"},
        ],
    }
    assert responses.to_chat(follow, history)["messages"] == [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", **message},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    assert responses.items_of(follow, answer)[0]["type"] == "function_call_output"


def test_input_items_have_ids_and_the_shape_of_their_list() -> None:
    items = responses.input_items(FULL, id="resp_1")
    listed = {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"],
        "last_id": items[-1]["id"],
        "has_more": False,
    }
    sdk.ResponseItemList.model_validate(listed, strict=True)
    assert len({item["id"] for item in items}) == len(FULL["input"])


def streamed(asked: Document, chunks: list[Document], usage: Usage | None) -> tuple[bytes, Document]:
    stream = responses.Stream(asked, id="resp_1", created=1, model="small")
    raw = [stream.begin(), *map(stream.feed, chunks), stream.end(usage, 2)]
    return b"".join(raw), stream.result()


ENDS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}


def assembled(raw: bytes) -> Document:
    """The response that a client makes of the events, after checking that they are well-formed."""
    created, in_progress, *middle, last = events(raw)
    read = [created, in_progress, *middle, last]
    assert [event["sequence_number"] for event in read] == list(range(len(read)))
    assert [created["type"], in_progress["type"]] == ["response.created", "response.in_progress"]
    assert created["response"] == in_progress["response"]
    assert last["response"]["status"] == ENDS[last["type"]]
    output: list[Document] = []
    rest = iter(middle)
    for added in rest:
        assert added["type"] == "response.output_item.added"
        assert added["output_index"] == len(output)
        output.append(_item(added, rest))
    return {**last["response"], "output": output}


SAID = {
    "response.output_text": ("content", "output_text", "text"),
    "response.refusal": ("content", "refusal", "refusal"),
    "response.reasoning_text": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text": ("summary", "summary_text", "text"),
}


def _item(added: Document, rest: Iterator[Document]) -> Document:
    """The item that was *added*, from the deltas up to its end."""
    item: Document = added["item"]
    assert item["status"] == "in_progress"
    at = {"output_index": added["output_index"], "item_id": item["id"]}
    for event in rest:
        if event["type"] == "response.output_item.done":
            assert {**item, "status": event["item"]["status"]} == event["item"]
            return dict(event["item"])
        assert {key: event[key] for key in at} == at
        said, _, happened = event["type"].rpartition(".")
        if said == "response.function_call_arguments":
            if happened == "delta":
                item["arguments"] += event["delta"]
            else:
                assert event["arguments"] == item["arguments"]
            continue
        if said in ("response.content_part", "response.reasoning_summary_part"):
            parts = item["content" if said == "response.content_part" else "summary"]
            if happened == "added":
                assert event.get("content_index", event.get("summary_index")) == len(parts)
                parts.append(event["part"])
            else:
                assert event["part"] == parts[-1]
            continue
        where, kind, key = SAID[said]
        (part,) = item[where]
        assert part["type"] == kind
        if happened == "delta":
            part[key] += event["delta"]
            if kind == "output_text":
                part["logprobs"] += event["logprobs"]
        else:
            assert event[key] == part[key]
    raise AssertionError("an item was not done")


@pytest.mark.parametrize("asked", [{}, {"reasoning": {"summary": "auto"}}])
@given(said=answers())
def test_what_is_streamed_is_what_is_answered_whole(asked: Document, said: Said) -> None:
    usage = usage_of(said.whole)
    raw, result = streamed(asked, said.chunks, usage)
    whole = responses.from_chat(said.whole, asked, id="resp_1", created=1, now=2)
    assert assembled(raw) == result == whole
    for event in events(raw):
        EVENT.validate_python(event, strict=True)


@given(answers())
def test_an_answer_has_every_key_and_only_values_of_the_protocol(said: Said) -> None:
    whole = responses.from_chat(said.whole, FULL, id="resp_1", created=1)
    sdk.Response.model_validate(whole, strict=True)
    assert set(whole) == KEYS
    required = {name for name, field in sdk.Response.model_fields.items() if field.is_required()}
    assert required <= KEYS
    assert set(sdk.Response.model_fields) >= KEYS - {"presence_penalty", "frequency_penalty", "store"}


def test_repeats_what_was_asked() -> None:
    whole = responses.from_chat(completion(content="Hi"), FULL, id="resp_1", created=1)
    for key in (
        "instructions",
        "max_output_tokens",
        "metadata",
        "store",
        "temperature",
        "tool_choice",
        "top_p",
        "user",
    ):
        assert whole[key] == FULL[key]
    assert whole["tools"] == [WEATHER]
    assert whole["text"] == {"format": {**SCHEMA, "description": None}, "verbosity": "low"}
    assert whole["truncation"] == "disabled", "nothing is ever cut"


FINISHES = [
    ("stop", "completed", None, "completed"),
    ("tool_calls", "completed", None, "completed"),
    ("length", "incomplete", {"reason": "max_output_tokens"}, "incomplete"),
    ("content_filter", "incomplete", {"reason": "content_filter"}, "incomplete"),
]


@pytest.mark.parametrize(("finish", "status", "details", "item_status"), FINISHES)
def test_the_status_says_how_it_ended(finish: str, status: str, details: Any, item_status: str) -> None:
    whole = responses.from_chat(completion(finish, content="Hi"), {}, id="resp_1", created=1, now=2)
    assert (whole["status"], whole["incomplete_details"]) == (status, details)
    assert whole["completed_at"] == (2 if status == "completed" else None)
    assert whole["output"][0]["status"] == item_status


def test_the_counts_are_those_of_the_engine() -> None:
    whole = responses.from_chat(completion(content="Hi"), {}, id="resp_1", created=1)
    assert whole["usage"] == {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 42,
    }
    assert streamed({}, [chunk(content="Hi")], None)[1]["usage"] is None


def test_logprobs_are_kept_token_by_token() -> None:
    entries = [
        {"token": t, "bytes": None, "logprob": -0.5, "top_logprobs": [{"token": "é", "bytes": None, "logprob": -0.5}]}
        for t in ("a", "é")
    ]
    chunks = [chunk(content=e["token"], logprobs={"content": [e]}) for e in entries]
    raw, result = streamed({}, chunks, None)
    logprobs = result["output"][0]["content"][0]["logprobs"]
    assert [entry["bytes"] for entry in logprobs] == [[97], [195, 169]]
    assert assembled(raw)["output"] == result["output"]
    sdk.Response.model_validate(result, strict=True)


FAILURES = [
    (Cut("broke off"), "server_error"),
    (Overloaded("busy"), "server_error"),
    (InvalidRequest("no"), "invalid_prompt"),
]


@pytest.mark.parametrize(("error", "code"), FAILURES)
def test_an_answer_that_breaks_off_says_so_and_keeps_what_came(error: GatewayError, code: str) -> None:
    stream = responses.Stream({}, id="resp_1", created=1, model="small")
    raw = stream.begin() + stream.feed(chunk(content="Half an ans")) + stream.fail(error)
    *_, told, failed = events(raw)
    assert (told["type"], told["message"], failed["type"]) == ("error", error.message, "response.failed")
    assert failed["response"] == stream.result()
    assert failed["response"]["error"] == {"code": code, "message": error.message}
    (item,) = failed["response"]["output"]
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "Half an ans")
    for event in events(raw):
        EVENT.validate_python(event, strict=True)
    with openai.OpenAI(api_key="k", http_client=answering(raw, streamed=True)) as client:
        seen = [event.type for event in client.responses.create(model="m", input="a", stream=True)]
    assert seen[-2:] == ["error", "response.failed"]


@given(answers())
def test_the_official_client_reads_the_same(said: Said) -> None:
    raw, result = streamed({}, said.chunks, usage_of(said.whole))
    with openai.OpenAI(api_key="k", http_client=answering(raw, streamed=True)) as client:
        with client.responses.stream(model="m", input="a") as stream:
            last = [event for event in stream][-1]
        assert isinstance(last, sdk.ResponseCompletedEvent | sdk.ResponseIncompleteEvent)
        read = last.response.to_dict(mode="json")
    assert without_parsed(read) == result
    with openai.OpenAI(api_key="k", http_client=answering(orjson.dumps(result), streamed=False)) as client:
        assert client.responses.create(model="m", input="a").to_dict(mode="json") == result


def without_parsed(read: Any) -> Any:
    """What the client read, without what it parsed from it."""
    if isinstance(read, dict):
        return {k: without_parsed(v) for k, v in read.items() if k not in ("parsed", "parsed_arguments")}
    return [without_parsed(inner) for inner in read] if isinstance(read, list) else read


def test_the_official_client_parses_a_structured_answer_and_calls() -> None:
    asked: Document = {"tools": [WEATHER]}
    message: Document = {"content": "Yes.", "tool_calls": [call("c1", "weather", '{"city":"Bern"}')]}
    whole = responses.from_chat(completion("tool_calls", **message), asked, id="resp_1", created=1)
    with openai.OpenAI(api_key="k", http_client=answering(orjson.dumps(whole), streamed=False)) as client:
        read = client.responses.create(model="m", input="a")
    assert read.output_text == "Yes."
    said = read.output[1]
    assert said.type == "function_call"
    assert (said.call_id, said.name, said.arguments) == ("c1", "weather", '{"city":"Bern"}')


def test_an_error_is_openais() -> None:
    error = InvalidRequest("input is required", param="input")
    assert responses.error_body(error, "req_1") == error.body()
