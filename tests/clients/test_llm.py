"""The command `llm`, with the gateway's models in its own file of further models."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.clients.asked import ANN, FRANCE, ONCE, WEATHER
from tests.clients.programs import RUN_TIMEOUT_SECONDS, client_environment, python_program
from tests.real.server import LARGE, SMALL, Server

pytestmark = pytest.mark.clients

BRIEFLY = ("-o", "temperature", "0", "-o", "max_tokens", "48")
FUNCTION = """
def get_weather(city: str) -> str:
    "The weather in a city now."
    return f"18 degrees and sunny in {city}"
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def llm(gateway: Server, tmp_path: Path) -> Run:
    """Runs the command in a home of its own."""
    models: list[dict[str, object]] = [
        {"model_id": "small", "model_name": SMALL},
        {"model_id": "large", "model_name": LARGE},
        {"model_id": "small-by-responses", "model_name": SMALL, "responses": True},
        {"model_id": "none", "model_name": "no-such-model"},
    ]
    common: dict[str, object] = {
        "api_base": f"{gateway.base_url}/v1",
        "api_key_name": "pointsman",
        "supports_schema": True,
        "supports_tools": True,
    }
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump([{**common, **model} for model in models]))
    (tmp_path / "keys.json").write_text(json.dumps({"pointsman": gateway.key}))
    environment = {**client_environment(gateway), "LLM_USER_PATH": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python_program("llm"), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_SECONDS,
            check=False,
        )

    return run


def said(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_prompt_is_answered_streamed_and_plainly(llm: Run) -> None:
    streamed = llm("-m", "small", *BRIEFLY, "--usage", FRANCE)
    assert said(streamed) == "Paris"
    assert "2 output" in streamed.stderr
    assert said(llm("-m", "small", *BRIEFLY, "--no-stream", FRANCE)) == "Paris"
    assert said(llm("-m", "small-by-responses", "-o", "temperature", "0", FRANCE)) == "Paris"


def test_a_schema_is_kept_to(llm: Run) -> None:
    answer = said(llm("-m", "small", *BRIEFLY, "--schema", "name, age int", ANN))
    assert json.loads(answer) == {"name": "Ann", "age": 30}


def test_a_function_is_called_and_its_result_told(llm: Run) -> None:
    ran = llm("-m", "large", *BRIEFLY, "-s", ONCE, "--functions", FUNCTION, "--td", WEATHER)
    assert "18" in said(ran)
    assert "get_weather({'city': 'Paris'})" in ran.stderr


def test_a_conversation_goes_on(llm: Run) -> None:
    said(llm("-m", "small", *BRIEFLY, "My name is Ann."))
    assert "Ann" in said(llm("-c", *BRIEFLY, "What is my name? Answer with one word."))


def test_an_unknown_model_is_told_with_what_there_is(llm: Run) -> None:
    ran = llm("-m", "none", FRANCE)
    assert ran.returncode == 1
    assert "404" in ran.stderr
    assert SMALL in ran.stderr
