"""Anthropic's own SDK, unaware that other models answer."""

from collections.abc import AsyncIterator, Iterator

import pytest
from anthropic import Anthropic, AsyncAnthropic, AuthenticationError, BadRequestError, NotFoundError
from anthropic.types import MessageParam, TextBlock, ToolParam
from pydantic import BaseModel

from tests.clients.asked import ANN, FRANCE, ONCE, WEATHER
from tests.real.server import CALL_TIMEOUT_SECONDS, LARGE, SMALL, Server

pytestmark = [pytest.mark.clients, pytest.mark.anyio]

TOOL: ToolParam = {
    "name": "get_weather",
    "description": "The weather in a city now.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
STEADY = {"temperature": 0}  # the SDK has no word for it any more


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(gateway: Server) -> Iterator[Anthropic]:
    with Anthropic(
        base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=CALL_TIMEOUT_SECONDS
    ) as client:
        yield client


@pytest.fixture
async def async_client(gateway: Server) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=CALL_TIMEOUT_SECONDS
    ) as client:
        yield client


def asked(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def test_plain(client: Anthropic) -> None:
    message = client.messages.create(model=SMALL, messages=asked(FRANCE), max_tokens=8, extra_body=STEADY)
    assert [block.text for block in message.content if block.type == "text"] == ["Paris"]
    assert (message.stop_reason, message.model) == ("end_turn", SMALL)
    assert message.usage.output_tokens == 2
    assert message._request_id


def test_streamed(client: Anthropic) -> None:
    with client.messages.stream(model=SMALL, messages=asked(FRANCE), max_tokens=8, extra_body=STEADY) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == "Paris"
    assert message.usage.output_tokens == 2
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 0


async def test_the_asynchronous_client(async_client: AsyncAnthropic) -> None:
    message = await async_client.messages.create(model=SMALL, messages=asked(FRANCE), max_tokens=8, extra_body=STEADY)
    assert isinstance(message.content[0], TextBlock)
    async with async_client.messages.stream(
        model=SMALL, messages=asked(FRANCE), max_tokens=8, extra_body=STEADY
    ) as stream:
        assert "".join([text async for text in stream.text_stream]) == message.content[0].text == "Paris"


def test_a_schema_is_kept_to_and_parsed(client: Anthropic) -> None:
    message = client.messages.parse(
        model=SMALL, messages=asked(ANN), max_tokens=48, extra_body=STEADY, output_format=Person
    )
    assert message.parsed_output == Person(name="Ann", age=30)


def test_a_forced_call_is_streamed(client: Anthropic) -> None:
    with client.messages.stream(
        model=SMALL,
        messages=asked("Hello."),
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
        max_tokens=48,
        extra_body=STEADY,
    ) as stream:
        message = stream.get_final_message()
    (call,) = message.content
    assert call.type == "tool_use"
    assert (call.name, message.stop_reason) == ("get_weather", "tool_use")
    assert call.input.keys() == {"city"}


def test_a_call_its_result_and_the_answer(client: Anthropic) -> None:
    calling = client.messages.create(
        model=LARGE, system=ONCE, messages=asked(WEATHER), tools=[TOOL], max_tokens=48, extra_body=STEADY
    )
    (call,) = calling.content
    assert call.type == "tool_use"
    assert call.input == {"city": "Paris"}

    result: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees and sunny"}],
    }
    answer = client.messages.create(
        model=LARGE,
        system=ONCE,
        messages=[*asked(WEATHER), {"role": "assistant", "content": calling.content}, result],
        tools=[TOOL],
        max_tokens=48,
        extra_body=STEADY,
    )
    assert isinstance(answer.content[0], TextBlock)
    assert "18" in answer.content[0].text


def test_the_tokens_of_a_prompt_are_counted(client: Anthropic) -> None:
    """With its tools and its system prompt, as the model will read it."""
    counted = client.messages.count_tokens(model=SMALL, system="Be brief.", messages=asked(WEATHER), tools=[TOOL])
    message = client.messages.create(
        model=SMALL, system="Be brief.", messages=asked(WEATHER), tools=[TOOL], max_tokens=1
    )
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_errors_are_the_clients_own(client: Anthropic, gateway: Server) -> None:
    with pytest.raises(NotFoundError):
        client.messages.create(model="no-such-model", messages=asked(FRANCE), max_tokens=8)
    with pytest.raises(BadRequestError):
        client.messages.create(model=SMALL, messages=[], max_tokens=8)
    with (
        Anthropic(base_url=gateway.base_url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.messages.create(model=SMALL, messages=asked(FRANCE), max_tokens=8)
