import json
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calls import HELD_LIMIT_CHARACTERS, CallingReply, demanding, tools_of, written_calls
from models.documents import Document, DocumentsReply
from models.engine import Call, EngineCut, EngineRefused, EngineUnavailable, Operation, Usage

pytestmark = pytest.mark.anyio

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ADD = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
WEATHER = {"name": "get_weather", "description": "The weather in a city now.", "parameters": CITY}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": ADD}]
BY_NAME = {"get_weather": WEATHER, "add": ADD}
PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
ONE = '{"name": "add", "arguments": {"a": 1}}'


def asking(**body: Any) -> Call:
    return Call({"tools": TOOLS, **body}, stream=bool(body.pop("stream", False)))


# What a request demands


def demanded(choice: Any, tools: list[dict[str, Any]] = TOOLS) -> dict[str, Any]:
    """The JSON Schema that the model is held to."""
    call = Call({"tools": tools, "tool_choice": choice})
    body = demanding(call.body, tools_of(call))
    assert body["tool_choice"] == "none"
    assert body["tools"] == tools  # the model must still read what they are
    schema: dict[str, Any] = body["response_format"]["json_schema"]["schema"]
    return schema


def names_in(schema: dict[str, Any]) -> list[str]:
    places = [reference["$ref"].rpartition("/")[2] for reference in schema["anyOf"]]
    return [schema["$defs"][place]["properties"]["name"]["const"] for place in places]


def test_a_named_function_is_the_only_one_that_the_model_can_call() -> None:
    schema = demanded({"type": "function", "function": {"name": "add"}})
    assert names_in(schema) == ["add"]
    assert schema["$defs"]["0"]["properties"]["arguments"] == ADD["parameters"]


def test_a_required_call_may_be_of_any_function() -> None:
    assert names_in(demanded("required")) == ["get_weather", "add"]


def test_references_of_parameters_lead_to_where_the_parameters_now_are() -> None:
    parameters = {"type": "object", "properties": {"at": {"$ref": "#/$defs/Place"}}, "$defs": {"Place": CITY}}
    schema = demanded("required", [{"type": "function", "function": {"name": "go", "parameters": parameters}}])
    arguments = schema["$defs"]["0"]["properties"]["arguments"]
    assert arguments["properties"]["at"]["$ref"] == "#/$defs/0/properties/arguments/$defs/Place"
    assert arguments["$defs"]["Place"] == CITY


def test_a_function_that_is_not_among_the_tools_is_refused() -> None:
    call = asking(tool_choice={"type": "function", "function": {"name": "sing"}})
    with pytest.raises(EngineRefused, match="sing") as refused:
        demanding(call.body, tools_of(call))
    assert (refused.value.status, refused.value.param) == (400, "tool_choice")


@pytest.mark.parametrize("choice", ["auto", None])
def test_a_request_that_demands_no_call_stays_as_it_is(choice: Any) -> None:
    call = asking(tool_choice=choice)
    assert demanding(call.body, tools_of(call)) is call.body


@pytest.mark.parametrize(
    "call",
    [
        asking(tool_choice="none"),
        asking(n=2),
        Call({"messages": []}),
        Call({"tools": None}),
        Call({"tools": [None, {"type": "custom"}, {"function": {}}]}),
        Call({"tools": TOOLS}, operation=Operation.COUNT),
    ],
)
def test_where_no_call_can_come_nothing_is_looked_for(call: Call) -> None:
    assert tools_of(call) == {}


# What a model wrote


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PARIS, ["get_weather"]),
        (f"\n {PARIS}\n", ["get_weather"]),
        (f"```json\n{PARIS}\n```", ["get_weather"]),
        (f"```\n{PARIS}```", ["get_weather"]),
        (f"{PARIS}\n{ONE}", ["get_weather", "add"]),
        (f"[{PARIS}, {ONE}]", ["get_weather", "add"]),
        (f"{{{PARIS}}}", ["get_weather"]),
        (PARIS.replace("{", "{{", 1).replace("}}", "}}}}"), ["get_weather"]),
        (f"Here you are: {PARIS}", []),
        (f"{PARIS} That is it.", []),
        (PARIS.replace("get_weather", "sing"), []),
        ('{"name": "add", "arguments": "a"}', []),
        ('{"name": "add", "arguments": {}, "why": 1}', []),
        ('{"name": "Ann", "age": 30}', []),
        (PARIS[:-1], []),
        ("[]", []),
        ("{" * 100_000, []),
        ("[" * 100_000, []),
        ("```" + " " * 100_000, []),
        ("", []),
    ],
)
def test_calls_are_what_consists_of_nothing_else(text: str, names: list[str]) -> None:
    assert [call.name for call in written_calls(text, BY_NAME)] == names


async def test_a_whole_answer_tells_the_call_as_openai_does() -> None:
    document = await whole(PARIS)
    choice = document["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}


async def test_one_call_is_told_where_only_one_is_wanted() -> None:
    assert len((await whole(f"{PARIS}\n{ONE}"))["choices"][0]["message"]["tool_calls"]) == 2
    assert len((await whole(f"{PARIS}\n{ONE}", parallel_tool_calls=False))["choices"][0]["message"]["tool_calls"]) == 1


async def test_an_answer_that_is_no_call_passes_byte_by_byte() -> None:
    document = answer("Hello")
    reply = await calling([document])
    assert reply.first == orjson.dumps(document)
    assert await reply.more() == b""


WRITTEN = (PARIS, f"{PARIS}\n{ONE}", f"```json\n{PARIS}\n```", PARIS[:-1], "{}", "```")
TEXTS = st.one_of(st.text(), st.sampled_from(WRITTEN))


@given(text=TEXTS, cuts=st.lists(st.integers(0, 80)))
async def test_streamed_in_any_pieces_an_answer_says_what_it_says_whole(text: str, cuts: list[int]) -> None:
    whole_choice = (await whole(text))["choices"][0]
    message = whole_choice["message"]
    events = await streamed(pieces(text, cuts))

    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    assert "".join(delta.get("content") or "" for delta in deltas) == (message["content"] or "")
    assert [call["function"] for call in calls] == [call["function"] for call in message.get("tool_calls") or []]
    assert [call["index"] for call in calls] == list(range(len(calls)))
    finishes = [event["choices"][0]["finish_reason"] for event in events if event["choices"]]
    assert [finish for finish in finishes if finish] == [whole_choice["finish_reason"]]
    assert finishes[-1] is not None
    assert events[-1]["choices"] == []  # the counts


async def test_text_that_cannot_become_a_call_is_not_held_back() -> None:
    reply = await calling([chunk("Hel"), chunk("lo"), chunk(None, "stop")], stream=True)
    assert b'"Hel"' in reply.first
    assert b'"lo"' in await reply.more()


async def test_text_is_not_held_back_for_long() -> None:
    said = '{"weather": "' + "sunny " * HELD_LIMIT_CHARACTERS
    read = 0

    async def documents() -> AsyncGenerator[Document, None]:
        nonlocal read
        for letter in said:
            read += 1
            yield Document(chunk(letter))

    call = asking(stream=True)
    reply = await CallingReply.begin(await DocumentsReply.begin(documents(), call), call, BY_NAME)
    assert reply.first
    assert read <= HELD_LIMIT_CHARACTERS + 1
    await reply.close()


async def test_an_engine_that_breaks_off_before_anything_was_told_can_be_replaced_by_another() -> None:
    async def documents() -> AsyncGenerator[Document, None]:
        yield Document(chunk(PARIS[:5]))
        raise EngineCut("gone")

    call = asking(stream=True)
    with pytest.raises(EngineUnavailable, match="gone"):
        await CallingReply.begin(await DocumentsReply.begin(documents(), call), call, BY_NAME)


async def test_counts_are_the_engines_and_closing_reaches_it() -> None:
    closed = []

    async def documents() -> AsyncGenerator[Document, None]:
        try:
            yield Document(chunk("Hi"), Usage(3, 1), 0.5)
            yield Document(chunk(" there"), Usage(3, 2), 0.6)
        finally:
            closed.append(True)

    call = asking(stream=True)
    reply = await CallingReply.begin(await DocumentsReply.begin(documents(), call), call, BY_NAME)
    assert (reply.usage, reply.engine_seconds) == (Usage(3, 1), 0.5)
    await reply.close()
    assert closed == [True]


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[start:end] for start, end in pairwise(places)]


async def whole(text: str, **body: Any) -> dict[str, Any]:
    reply = await calling([answer(text)], **body)
    document: dict[str, Any] = orjson.loads(reply.first)
    return document


async def streamed(texts: Sequence[str]) -> list[dict[str, Any]]:
    said = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}]}]
    documents = [*said, *map(chunk, texts), chunk(None, "stop"), {"choices": []}]
    reply = await calling(documents, stream=True, include_usage=True)
    blocks = [reply.first]
    while block := await reply.more():
        blocks.append(block)
    events = b"".join(blocks).split(b"\n\n")
    assert events.pop() == b""
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events]


async def calling(documents: Sequence[dict[str, Any]], *, include_usage: bool = False, **body: Any) -> CallingReply:
    call = Call({"tools": TOOLS, **body}, stream=bool(body.get("stream")), include_usage=include_usage)

    async def told() -> AsyncGenerator[Document, None]:
        for document in documents:
            yield Document(document)

    return await CallingReply.begin(await DocumentsReply.begin(told(), call), call, BY_NAME)


def answer(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice]}


def chunk(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
