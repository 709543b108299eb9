"""Pydantic AI's agents, over chat completions, Responses and Anthropic's Messages."""

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from tests.clients.asked import ANN, FRANCE, ONCE, WEATHER
from tests.clients.scripts.cases import KEY, LARGE, SMALL, URL, main

BRIEFLY = ModelSettings(temperature=0, max_tokens=48)


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city now."""
    return f"18 degrees and sunny in {city}"


def chat(model: str = SMALL, key: str = KEY) -> Model:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=key))


def responses(model: str = SMALL) -> Model:
    return OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def anthropic() -> Model:
    return AnthropicModel(SMALL, provider=AnthropicProvider(base_url=URL, api_key=KEY))


def chat_plain() -> object:
    return _plain(chat())


def chat_streamed() -> object:
    return _streamed(chat())


def chat_tool_round() -> object:
    return _round(chat(LARGE))


def chat_structured_by_call() -> object:
    return _structured(chat(), Person)


def chat_structured_by_schema() -> object:
    return _structured(chat(), NativeOutput(Person))


def responses_plain() -> object:
    return _plain(responses())


def responses_streamed() -> object:
    return _streamed(responses())


def responses_tool_round() -> object:
    return _round(responses(LARGE))


def responses_structured_by_call() -> object:
    return _structured(responses(), Person)


def responses_structured_by_schema() -> object:
    return _structured(responses(), NativeOutput(Person))


def anthropic_plain() -> object:
    return _plain(anthropic())


def anthropic_streamed() -> object:
    return _streamed(anthropic())


def anthropic_structured_by_call() -> object:
    return _structured(anthropic(), Person)


def unknown_model() -> object:
    return _status(chat("no-such-model"))


def wrong_key() -> object:
    return _status(chat(key="wrong"))


def _plain(model: Model) -> object:
    ran = Agent(model, model_settings=BRIEFLY).run_sync(FRANCE)
    return {"text": ran.output, "input": ran.usage.input_tokens, "output": ran.usage.output_tokens}


def _streamed(model: Model) -> object:
    async def run() -> object:
        async with Agent(model, model_settings=BRIEFLY).run_stream(FRANCE) as ran:
            pieces = [piece async for piece in ran.stream_text(delta=True, debounce_by=None)]
        return {"text": "".join(pieces), "input": ran.usage.input_tokens, "output": ran.usage.output_tokens}

    return asyncio.run(run())


def _round(model: Model) -> object:
    """The agent's own loop: the model calls, gets the result and answers."""
    ran = Agent(model, instructions=ONCE, tools=[get_weather], model_settings=BRIEFLY).run_sync(WEATHER)
    parts = [part for message in ran.all_messages() for part in message.parts]
    return {"parts": [part.part_kind for part in parts], "answer": ran.output, "requests": ran.usage.requests}


def _structured(model: Model, output_type: Any) -> object:
    output: Any = Agent(model, output_type=output_type, model_settings=BRIEFLY).run_sync(ANN).output
    return output.model_dump()


def _status(model: Model) -> object:
    try:
        _plain(model)
    except ModelHTTPError as error:
        return [type(error).__name__, error.status_code]
    return "nothing was raised"


if __name__ == "__main__":
    main(
        chat_plain,
        chat_streamed,
        chat_tool_round,
        chat_structured_by_call,
        chat_structured_by_schema,
        responses_plain,
        responses_streamed,
        responses_tool_round,
        responses_structured_by_call,
        responses_structured_by_schema,
        anthropic_plain,
        anthropic_streamed,
        anthropic_structured_by_call,
        unknown_model,
        wrong_key,
    )
