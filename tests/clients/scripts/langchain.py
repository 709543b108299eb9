"""LangChain's ChatOpenAI, over chat completions and over Responses."""

import asyncio
from typing import Any

from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.clients.asked import ANN, FRANCE, ONCE, WEATHER
from tests.clients.scripts.cases import EMBEDDER, KEY, LARGE, SMALL, URL, main, raised_by


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city now."""
    return f"18 degrees and sunny in {city}"


def chat(model: str = SMALL, key: str = KEY, **settings: Any) -> ChatOpenAI:
    settings = {"max_tokens": 48, "temperature": 0, "max_retries": 0, **settings}
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=SecretStr(key), **settings)


def responses(model: str = SMALL, **settings: Any) -> ChatOpenAI:
    return chat(model, use_responses_api=True, **settings)


def plain() -> object:
    answer = chat().invoke(FRANCE)
    return {"text": answer.text, "usage": answer.usage_metadata, "model": answer.response_metadata["model_name"]}


def streamed() -> object:
    return _joined(list(chat(stream_usage=True).stream(FRANCE)))


def asynchronous() -> object:
    async def both() -> list[str]:
        model = chat()
        chunks = [chunk.text async for chunk in model.astream(FRANCE)]
        return [(await model.ainvoke(FRANCE)).text, "".join(chunks)]

    return asyncio.run(both())


def forced_tool() -> object:
    return chat().bind_tools([get_weather], tool_choice="get_weather").invoke(WEATHER).tool_calls


def any_tool() -> object:
    return chat().bind_tools([get_weather], tool_choice="any").invoke(WEATHER).tool_calls


def streamed_tool() -> object:
    whole = _sum(list(chat().bind_tools([get_weather]).stream(WEATHER)))
    return whole.tool_calls


def tool_round() -> object:
    """The model calls, gets the result and answers."""
    model = chat(LARGE).bind_tools([get_weather])
    asked = [SystemMessage(ONCE), HumanMessage(WEATHER)]
    calling = model.invoke(asked)
    results = [ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"]) for call in calling.tool_calls]
    return {"calls": calling.tool_calls, "answer": model.invoke([*asked, calling, *results]).text}


def structured_by_schema() -> object:
    return _structured(chat(), "json_schema")


def structured_by_call() -> object:
    return _structured(chat(), "function_calling")


def structured_as_json() -> object:
    answer = chat().with_structured_output(Person, method="json_mode").invoke(f"{ANN} Answer as JSON: name, age.")
    return _dumped(answer)


def responses_plain() -> object:
    answer = responses().invoke(FRANCE)
    return {"text": answer.text, "usage": answer.usage_metadata, "model": answer.response_metadata["model_name"]}


def responses_streamed() -> object:
    return _joined(list(responses().stream(FRANCE)))


def responses_tool() -> object:
    return responses().bind_tools([get_weather], tool_choice="get_weather").invoke(WEATHER).tool_calls


def responses_structured() -> object:
    return _structured(responses(), "json_schema")


def responses_continued() -> object:
    model = responses(use_previous_response_id=True)
    asked = HumanMessage("My name is Ann.")
    first = model.invoke([asked])
    return model.invoke([asked, first, HumanMessage("What is my name? Answer with one word.")]).text


def embedded() -> object:
    """Without its own count of tokens, for which it would fetch OpenAI's vocabulary."""
    embeddings = OpenAIEmbeddings(
        model=EMBEDDER, base_url=f"{URL}/v1", api_key=SecretStr(KEY), check_embedding_ctx_length=False
    )
    return [len(vector) for vector in embeddings.embed_documents(["a cat", "a dog"])]


def unknown_model() -> object:
    return raised_by(lambda: chat("no-such-model").invoke(FRANCE))


def wrong_key() -> object:
    return raised_by(lambda: chat(key="wrong").invoke(FRANCE))


def _structured(model: ChatOpenAI, method: Any) -> object:
    return _dumped(model.with_structured_output(Person, method=method).invoke(ANN))


def _dumped(answer: object) -> object:
    assert isinstance(answer, Person), answer
    return answer.model_dump()


def _joined(chunks: list[Any]) -> object:
    whole = _sum(chunks)
    return {"text": whole.text, "usage": whole.usage_metadata, "chunks": len(chunks)}


def _sum(chunks: list[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


if __name__ == "__main__":
    main(
        plain,
        streamed,
        asynchronous,
        forced_tool,
        any_tool,
        streamed_tool,
        tool_round,
        structured_by_schema,
        structured_by_call,
        structured_as_json,
        responses_plain,
        responses_streamed,
        responses_tool,
        responses_structured,
        responses_continued,
        embedded,
        unknown_model,
        wrong_key,
    )
