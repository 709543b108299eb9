"""OpenAI's own SDK for Python; that for Node is in `test_node`."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import APITimeoutError, AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from openai.types.responses import FunctionToolParam, ResponseInputItemParam
from pydantic import BaseModel

from tests.clients.asked import ANN, FRANCE, ONCE, WEATHER
from tests.processes import until
from tests.real.server import CALL_TIMEOUT_SECONDS, EMBEDDER, LARGE, SMALL, Server

pytestmark = [pytest.mark.clients, pytest.mark.anyio]

ENGINE_IDLE_TIMEOUT_SECONDS = 10.0  # promised is one; the machine may be busy
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city now.", "parameters": CITY},
}
RESPONSE_TOOL: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city now.",
    "parameters": CITY,
    "strict": True,
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client(gateway: Server) -> OpenAI:
    return gateway.client


@pytest.fixture
async def async_client(gateway: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.base_url}/v1", api_key=gateway.key, max_retries=0, timeout=CALL_TIMEOUT_SECONDS
    ) as client:
        yield client


@pytest.fixture
def stranger(gateway: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.base_url}/v1", api_key="wrong", max_retries=0) as client:
        yield client


def asked(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_plain_with_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=SMALL, messages=asked(FRANCE), max_completion_tokens=8, temperature=0
    )
    answer = raw.parse()

    assert answer.choices[0].message.content == "Paris"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert raw.headers["x-pointsman-model"] == answer.model == SMALL
    assert raw.headers["x-request-id"] == answer._request_id
    assert int(raw.headers["openai-processing-ms"]) >= 0


def test_streamed_with_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=SMALL,
            messages=asked(FRANCE),
            max_completion_tokens=8,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Paris"
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
    assert usage.completion_tokens == 2
    assert chunks[-1].choices == []


def test_the_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model=SMALL, messages=asked(FRANCE), temperature=0) as stream:
        kinds = {event.type for event in stream}
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert stream.get_final_completion().choices[0].message.content == "Paris"


async def test_the_asynchronous_client(async_client: AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(model=SMALL, messages=asked(FRANCE), temperature=0)
    stream = await async_client.chat.completions.create(model=SMALL, messages=asked(FRANCE), temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert answer.choices[0].message.content == "".join(pieces) == "Paris"


def test_a_schema_is_kept_to_and_parsed(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model=SMALL, messages=asked(ANN), response_format=Person, temperature=0)
    assert answer.choices[0].message.parsed == Person(name="Ann", age=30)


def test_a_forced_call_is_streamed(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=SMALL,
        messages=asked("Hello."),  # nothing about the weather: only force brings a call
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_completion_tokens=48,
        temperature=0,
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments).keys() == {"city"}


def test_a_call_its_result_and_the_answer(client: OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": ONCE}, *asked(WEATHER)]
    calling = client.chat.completions.create(
        model=LARGE, messages=messages, tools=[TOOL], max_completion_tokens=48, temperature=0
    )
    message = calling.choices[0].message
    assert message.tool_calls
    (call,) = message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}

    messages += [
        message.model_dump(exclude_none=True),  # type: ignore[list-item]  # what the SDK's documentation does
        {"role": "tool", "tool_call_id": call.id, "content": "18 degrees and sunny"},
    ]
    answer = client.chat.completions.create(
        model=LARGE, messages=messages, tools=[TOOL], max_completion_tokens=48, temperature=0
    )
    assert "18" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_a_text_is_continued(client: OpenAI) -> None:
    answer = client.completions.create(
        model=SMALL, prompt="The capital of France is", max_tokens=4, temperature=0, logprobs=1
    )
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].logprobs is not None


def test_a_response_and_one_that_goes_on_from_it(client: OpenAI) -> None:
    first = client.responses.create(model=SMALL, input="My name is Ann.", max_output_tokens=16, temperature=0)
    follow = client.responses.create(
        model=SMALL,
        input="What is my name? Answer with one word.",
        previous_response_id=first.id,
        max_output_tokens=16,
        temperature=0,
    )
    assert "Ann" in follow.output_text
    assert client.responses.retrieve(first.id).output_text == first.output_text
    assert [item.type for item in client.responses.input_items.list(follow.id)] == ["message"] * 3
    client.responses.delete(first.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)


def test_a_response_is_streamed(client: OpenAI) -> None:
    with client.responses.stream(model=SMALL, input=FRANCE, temperature=0) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert answer.output_text == "Paris"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2


def test_a_response_keeps_to_a_schema(client: OpenAI) -> None:
    answer = client.responses.parse(model=SMALL, input=ANN, text_format=Person, temperature=0)
    assert answer.output_parsed == Person(name="Ann", age=30)


def test_a_response_calls_gets_the_result_and_answers(client: OpenAI) -> None:
    calling = client.responses.create(
        model=LARGE, instructions=ONCE, input=WEATHER, tools=[RESPONSE_TOOL], max_output_tokens=48, temperature=0
    )
    (call,) = calling.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Paris"}

    result: ResponseInputItemParam = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": "18 degrees and sunny",
    }
    answer = client.responses.create(
        model=LARGE,
        instructions=ONCE,
        input=[result],
        previous_response_id=calling.id,
        tools=[RESPONSE_TOOL],
        max_output_tokens=48,
        temperature=0,
    )
    assert "18" in answer.output_text


def test_texts_become_vectors(client: OpenAI) -> None:
    """The SDK asks for base64 unless told otherwise, and decodes it."""
    answer = client.embeddings.create(model=EMBEDDER, input=["a cat", "a dog"])
    floats = client.embeddings.create(model=EMBEDDER, input=["a cat", "a dog"], encoding_format="float")
    assert [vector.index for vector in answer.data] == [0, 1]
    assert answer.data[0].embedding == pytest.approx(floats.data[0].embedding)
    assert answer.usage.total_tokens > 0


def test_the_tokens_of_a_prompt_are_counted(client: OpenAI) -> None:
    counted = client.responses.input_tokens.count(model=SMALL, input=FRANCE)
    answer = client.responses.create(model=SMALL, input=FRANCE, max_output_tokens=1)
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens


def test_every_listed_model_can_be_retrieved(client: OpenAI) -> None:
    listed = list(client.models.list())
    assert {"auto", SMALL, LARGE} <= {model.id for model in listed}
    assert [client.models.retrieve(model.id) for model in listed] == listed


def test_errors_are_the_clients_own(client: OpenAI, stranger: OpenAI) -> None:
    with pytest.raises(NotFoundError) as unknown:
        client.chat.completions.create(model="no-such-model", messages=asked(FRANCE))
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert unknown.value.request_id

    with pytest.raises(AuthenticationError) as refused:
        stranger.responses.create(model=SMALL, input=FRANCE)
    assert refused.value.code == "invalid_api_key"

    with pytest.raises(BadRequestError) as wrong:
        client.chat.completions.create(model=SMALL, messages=asked(FRANCE), temperature=9)
    assert wrong.value.param == "temperature"


def test_a_client_that_runs_out_of_patience_frees_the_engine(gateway: Server) -> None:
    def gone() -> float:
        return gateway.metric("pointsman_requests_total", model=SMALL, outcome="gone")

    before = gone()
    with pytest.raises(APITimeoutError):
        gateway.client.with_options(timeout=1.0).chat.completions.create(
            model=SMALL,
            messages=asked("Write a long story."),
            max_completion_tokens=400,
            extra_body={"ignore_eos": True},  # llama.cpp's own: a story that ends after a second proves nothing
        )
    until(
        lambda: gone() == before + 1 and gateway.metric("pointsman_engine_in_flight", model=SMALL) == 0,
        ENGINE_IDLE_TIMEOUT_SECONDS,
        "the engine is free",
    )
