"""Clients that run as programs of their own: LangChain, Pydantic AI, and in Node OpenAI's SDK and the Vercel AI SDK."""

import shutil
from typing import Any

import pytest

from tests.clients.programs import NODE_CLIENTS, RUN_TIMEOUT_SECONDS, Outcomes, outcomes_of, python_program
from tests.real.server import LARGE, SMALL, Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(RUN_TIMEOUT_SECONDS + 60)]

VECTORS = [256, 256]
ANN = {"name": "Ann", "age": 30}
RESULT = "18"  # degrees, says the tool; the answer must have it from there


@pytest.fixture(scope="session")
def langchain(gateway: Server) -> Outcomes:
    return outcomes_of([python_program("python"), "-m", "tests.clients.scripts.langchain"], gateway)


@pytest.fixture(scope="session")
def pydantic_ai(gateway: Server) -> Outcomes:
    return outcomes_of([python_program("python"), "-m", "tests.clients.scripts.pydantic_ai"], gateway)


@pytest.fixture(scope="session")
def openai_in_node(gateway: Server) -> Outcomes:
    return outcomes_of([node(), "openai.mjs"], gateway, NODE_CLIENTS)


@pytest.fixture(scope="session")
def vercel(gateway: Server) -> Outcomes:
    return outcomes_of([node(), "vercel.mjs"], gateway, NODE_CLIENTS)


def node() -> str:
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    assert (NODE_CLIENTS / "node_modules").exists(), "the clients for Node are missing; install them with: make clients"
    return program


# LangChain


@pytest.mark.parametrize("case", ["plain", "responses_plain"])
def test_langchain_answers_plainly(langchain: Outcomes, case: str) -> None:
    answer = langchain[case]
    assert (answer["text"], answer["model"]) == ("Paris", SMALL)
    assert answer["usage"]["output_tokens"] == 2


@pytest.mark.parametrize("case", ["streamed", "responses_streamed"])
def test_langchain_streams_with_usage(langchain: Outcomes, case: str) -> None:
    answer = langchain[case]
    assert answer["text"] == "Paris"
    assert answer["chunks"] > 1
    assert answer["usage"]["output_tokens"] == 2


def test_langchain_answers_asynchronously(langchain: Outcomes) -> None:
    assert langchain["asynchronous"] == ["Paris", "Paris"]


@pytest.mark.parametrize("case", ["forced_tool", "any_tool", "streamed_tool", "responses_tool"])
def test_langchain_reads_calls(langchain: Outcomes, case: str) -> None:
    (call,) = langchain[case]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})


def test_langchain_calls_gets_the_result_and_answers(langchain: Outcomes) -> None:
    round_ = langchain["tool_round"]
    assert [call["name"] for call in round_["calls"]] == ["get_weather"]
    assert RESULT in round_["answer"]


@pytest.mark.parametrize(
    "case", ["structured_by_schema", "structured_by_call", "structured_as_json", "responses_structured"]
)
def test_langchain_gets_structured_output(langchain: Outcomes, case: str) -> None:
    assert langchain[case] == ANN


def test_langchain_goes_on_from_a_response(langchain: Outcomes) -> None:
    assert "Ann" in langchain["responses_continued"]


def test_langchain_gets_embeddings(langchain: Outcomes) -> None:
    assert langchain["embedded"] == VECTORS


def test_langchain_tells_errors_apart(langchain: Outcomes) -> None:
    assert langchain["unknown_model"] == "OpenAIModelNotFoundError"
    assert langchain["wrong_key"] == "OpenAIAuthenticationError"


# Pydantic AI


@pytest.mark.parametrize("protocol", ["chat", "responses", "anthropic"])
@pytest.mark.parametrize("case", ["plain", "streamed"])
def test_pydantic_ai_answers(pydantic_ai: Outcomes, protocol: str, case: str) -> None:
    answer = pydantic_ai[f"{protocol}_{case}"]
    assert (answer["text"], answer["output"]) == ("Paris", 2)
    assert answer["input"] > 0


@pytest.mark.parametrize("protocol", ["chat", "responses"])
def test_an_agent_of_pydantic_ai_calls_gets_the_result_and_answers(pydantic_ai: Outcomes, protocol: str) -> None:
    round_ = pydantic_ai[f"{protocol}_tool_round"]
    assert round_["parts"] == ["user-prompt", "tool-call", "tool-return", "text"]
    assert RESULT in round_["answer"]


@pytest.mark.parametrize(
    "case",
    [
        "chat_structured_by_call",
        "chat_structured_by_schema",
        "responses_structured_by_call",
        "responses_structured_by_schema",
        "anthropic_structured_by_call",
    ],
)
def test_pydantic_ai_gets_structured_output(pydantic_ai: Outcomes, case: str) -> None:
    assert pydantic_ai[case] == ANN


def test_pydantic_ai_tells_errors_apart(pydantic_ai: Outcomes) -> None:
    assert pydantic_ai["unknown_model"] == ["ModelNotFoundError", 404]
    assert pydantic_ai["wrong_key"] == ["ModelAuthenticationError", 401]


# OpenAI's SDK in Node


def test_openai_in_node_answers_with_headers(openai_in_node: Outcomes) -> None:
    answer = openai_in_node["plain"]
    assert answer["text"] == "Paris"
    assert answer["headers"]["model"] == SMALL
    assert answer["headers"]["id"].startswith("req_")
    assert answer["usage"]["completion_tokens"] == 2


def test_openai_in_node_streams(openai_in_node: Outcomes) -> None:
    answer = openai_in_node["streamed"]
    assert answer["text"] == openai_in_node["streamHelper"] == "Paris"
    assert [usage["completion_tokens"] for usage in answer["usage"]] == [2]


def test_openai_in_node_leaves_a_stream(openai_in_node: Outcomes) -> None:
    assert openai_in_node["aborted"] == 3


def test_openai_in_node_reads_a_forced_call(openai_in_node: Outcomes) -> None:
    (call,) = openai_in_node["forcedTool"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}


def test_openai_in_node_runs_tools(openai_in_node: Outcomes) -> None:
    round_ = openai_in_node["toolRound"]
    assert round_["roles"] == ["system", "user", "assistant", "tool", "assistant"]
    assert RESULT in round_["answer"]


@pytest.mark.parametrize("case", ["parsed", "responseParsed"])
def test_openai_in_node_gets_structured_output(openai_in_node: Outcomes, case: str) -> None:
    assert openai_in_node[case] == ANN


def test_openai_in_node_gets_responses(openai_in_node: Outcomes) -> None:
    assert openai_in_node["response"]["text"] == openai_in_node["responseStreamed"]["text"] == "Paris"
    assert openai_in_node["response"]["status"] == "completed"
    kinds: list[Any] = openai_in_node["responseStreamed"]["kinds"]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert "Ann" in openai_in_node["responseContinued"]


def test_openai_in_node_gets_embeddings(openai_in_node: Outcomes) -> None:
    assert openai_in_node["embedded"] == VECTORS


def test_openai_in_node_lists_models(openai_in_node: Outcomes) -> None:
    assert {"auto", SMALL, LARGE} <= set(openai_in_node["models"])


def test_openai_in_node_tells_errors_apart(openai_in_node: Outcomes) -> None:
    unknown = openai_in_node["unknownModel"]
    assert (unknown["isNotFound"], unknown["code"]) == (True, "model_not_found")
    assert unknown["id"].startswith("req_")
    assert openai_in_node["wrongKey"] is True


# The Vercel AI SDK


@pytest.mark.parametrize("case", ["plain", "streamed", "responses", "responsesStreamed", "chatOfOpenAI"])
def test_vercel_answers(vercel: Outcomes, case: str) -> None:
    answer = vercel[case]
    assert (answer["text"], answer["output"]) == ("Paris", 2)
    assert answer["input"] > 0


@pytest.mark.parametrize("case", ["structured", "responsesStructured"])
def test_vercel_gets_structured_output(vercel: Outcomes, case: str) -> None:
    assert vercel[case] == ANN


@pytest.mark.parametrize("case", ["streamedCall", "responsesStreamedCall"])
def test_vercel_streams_a_forced_call(vercel: Outcomes, case: str) -> None:
    assert vercel[case] == [["get_weather", {"city": "Paris"}]]


@pytest.mark.parametrize("case", ["toolRound", "responsesToolRound"])
def test_vercel_calls_gets_the_result_and_answers(vercel: Outcomes, case: str) -> None:
    round_ = vercel[case]
    assert round_["calls"] == [["get_weather", {"city": "Paris"}]]
    assert round_["steps"] == 2
    assert RESULT in round_["answer"]


def test_vercel_refers_to_what_the_model_said(vercel: Outcomes) -> None:
    continued = vercel["responsesContinued"]
    assert "Ann" in continued["text"]
    assert continued["sent"] == ["user", "item_reference", "user"]


def test_vercel_gets_embeddings(vercel: Outcomes) -> None:
    assert vercel["embedded"] == VECTORS


def test_vercel_tells_errors_apart(vercel: Outcomes) -> None:
    assert vercel["unknownModel"] == {"isCallError": True, "status": 404, "retryable": False}
    assert vercel["wrongKey"] == 401
