"""The command line: every command explains itself, and what an operator can mend is told in one message."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

from gateway.cli import GROUPS, OPERATOR_ERRORS, app
from gateway.cli.serve import greeting
from gateway.learning.store import RecordStore
from gateway.ledger.database import open_database
from gateway.settings import load_settings
from models.catalog import BUILTIN_CATALOG, load_catalog
from router.bar import Cause
from router.outcomes import Outcome
from router.record import restart
from tests.fakes import unused_port
from tests.prompts.trees import FILES, write
from tests.terminal import Terminal

CATALOG = """
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 1000, price: {input_usd: 0.1, output_usd: 0.2}}
  - {name: large, engine: scripted, tier: 1, context_tokens: 2000, price: {input_usd: 1, output_usd: 2}}
"""
START_SECONDS = 30


@pytest.fixture
def scripted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """One that serves two models without weights."""
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    monkeypatch.setenv("POINTSMAN_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("POINTSMAN_MODELS", "all")
    return terminal


def commands(
    group: TyperGroup, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], TyperCommand | TyperGroup]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert isinstance(command, TyperCommand | TyperGroup)
        yield (*path, name), command
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))


TOP = typer.main.get_command(app)
assert isinstance(TOP, TyperGroup)
ALL = dict(commands(TOP))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself(terminal: Terminal, path: tuple[str, ...]) -> None:
    said = terminal.run(*path, "--help")
    assert said.code == 0
    assert (ALL[path].help or "").split("\n")[0].strip().endswith((".", ".:"))
    for parameter in ALL[path].params:
        if isinstance(parameter, TyperOption) and parameter.name != "help":
            assert parameter.help, parameter.name


def test_a_group_is_loaded_for_its_own_commands_and_not_to_serve() -> None:
    code = "import sys, gateway.cli; print([name for name in GROUPS if name in sys.modules])"
    own = ("config", "models")  # --config is of every command, and serving fetches weights
    groups = [module for name, module in GROUPS.items() if name not in own]
    command = [sys.executable, "-c", code.replace("GROUPS", repr(groups))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_there_is_not_is_answered_with_those_like_it(terminal: Terminal) -> None:
    for wrong, right in (("promts", "prompts"), ("server", "serve"), ("modles", "models")):
        said = terminal.run(wrong)
        assert said.code == 2
        assert f"'{right}'" in said.err


def test_the_bare_command_shows_the_commands(terminal: Terminal) -> None:
    said = terminal.run()
    for name in ("serve", "check", "doctor", *GROUPS):
        assert name in said.out + said.err


def test_route_says_which_model_and_why_and_calls_nothing(terminal: Terminal) -> None:
    said = terminal.run("route", "What is 17 * 23?")
    assert said.code == 0
    assert "qwen2.5-coder-1.5b-instruct-q4_k_m" in said.out
    assert "basis: " in said.out
    pinned = terminal.run("route", "Hello", "--model", "qwen2.5-coder-0.5b-instruct-q4_k_m")
    assert "basis: pinned" in pinned.out


def test_route_takes_text_that_looks_like_markup(scripted: Terminal) -> None:
    assert scripted.run("route", "[/bold] [red]", "--system", "[/x]").code == 0


def test_route_refuses_a_model_that_is_not_served(scripted: Terminal) -> None:
    said = scripted.run("route", "Hello", "--model", "nobody")
    assert said.code == 1
    assert "served: auto, small, large" in said.err


def test_the_catalogue_is_listed(terminal: Terminal) -> None:
    said = terminal.run("models", "list")
    assert said.code == 0
    for name in ("smollm2-135m-instruct-q4_1", "qwen2.5-coder-1.5b-instruct-q4_k_m"):
        assert name in said.out


def test_weights_of_a_package_are_here_with_it_and_not_pulled(terminal: Terminal) -> None:
    listed = terminal.run("models", "list")
    row = next(line.split() for line in listed.out.splitlines() if "wordllama-l2-256" in line)
    assert row.count("yes") == 2  # here, and served
    said = terminal.run("models", "pull", "wordllama-l2-256")
    assert said.code == 1
    assert "pip install 'wordllama==" in said.err


def test_the_greeting_shows_models_that_do_not_chat_last_and_as_such(terminal: Terminal) -> None:
    told = greeting(load_settings(), load_catalog(), "pm-key")
    assert told.index("(safe tier)") < told.index("wordllama-l2-256   (only embeddings)")


def test_keys_are_made_listed_and_revoked(scripted: Terminal, tmp_path: Path) -> None:
    made = scripted.run("keys", "create", "ann")
    assert made.code == 0
    fields = dict(line.split(maxsplit=1) for line in made.out.splitlines()[:3])
    assert fields["name"] == "ann"
    listed = scripted.run("keys", "list")
    assert fields["id"] in listed.out
    assert fields["key"][-4:] in listed.out
    assert fields["key"] not in listed.out
    assert scripted.run("keys", "revoke", fields["id"]).code == 0
    again = scripted.run("keys", "revoke", fields["id"])
    assert (again.code, "pointsman keys list" in again.err) == (1, True)
    assert all(fields["key"].encode() not in path.read_bytes() for path in (tmp_path / "data").iterdir())


def test_a_key_is_made_with_what_its_holder_may_do_and_listed_with_it(scripted: Terminal) -> None:
    bounds = ["--models", "small, large", "--role", "admin", "--team", "search", "--expires", "30d"]
    limits = ["--budget-day", "1.50", "--budget-month", "20", "--requests-per-minute", "60", "--concurrency", "4"]
    assert scripted.run("keys", "create", "ann", *bounds, *limits).code == 0
    listed = " ".join(scripted.run("keys", "list").out.split())
    for shown in ("admin", "search", "small", "1.5", "USD/day", "20", "60", "at once"):
        assert shown in listed


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--expires", "soon", "30d"),
        ("--expires", "0d", "30d"),
        ("--expires", "99999d", "ten years"),
        ("--budget-day", "much", "1.50"),
        ("--budget-day", "-1", "between 0 and"),
        ("--budget-day", "NaN", "between 0 and"),
        ("--budget-month", "0.0000000001", "billionth"),
        ("--requests-per-minute", "0", "requests a minute"),
        ("--concurrency", "-3", "answers at once"),
    ],
)
def test_a_key_with_an_impossible_bound_is_not_made(scripted: Terminal, option: str, value: str, told: str) -> None:
    said = scripted.run("keys", "create", "ann", option, value)
    assert (said.code, told in said.err) == (1, True), said.err
    assert "ann" not in scripted.run("keys", "list").out


def test_budgets_are_set_listed_and_removed(scripted: Terminal) -> None:
    assert scripted.run("budgets", "set", "team", "search", "--budget-day", "1.5").code == 0
    assert scripted.run("budgets", "set", "template", "[/x]", "--tokens-per-minute", "1000").code == 0
    replaced = scripted.run("budgets", "set", "team", "search", "--budget-month", "0.000000001")
    assert "search: 0.000000001 USD/month" in replaced.out
    listed = scripted.run("budgets", "list").out
    assert "0.000000001 USD/month" in listed
    assert "1000 tokens/min" in listed
    assert "USD/day" not in listed
    assert "[/x]" in listed
    assert scripted.run("budgets", "remove", "team", "search").code == 0
    assert "search" not in scripted.run("budgets", "list").out
    again = scripted.run("budgets", "remove", "team", "search")
    assert (again.code, "pointsman budgets list" in again.err) == (1, True)
    empty = scripted.run("budgets", "set", "team", "search")
    assert (empty.code, "at least one limit" in empty.err) == (1, True)


def test_a_name_that_looks_like_markup_is_shown_as_it_is(scripted: Terminal) -> None:
    assert "[/bold] [red]x" in scripted.run("keys", "create", "[/bold] [red]x").out
    listed = scripted.run("keys", "list")
    assert listed.code == 0
    assert "[/bold] [red]x" in listed.out


def test_check_says_what_is_missing_and_how_to_get_it(terminal: Terminal) -> None:
    said = terminal.run("check")
    assert said.code == 1
    assert "not here: qwen2.5-coder-0.5b-instruct-q4_k_m" in said.out
    assert "pointsman models pull" in said.out
    assert said.out.count("ok  ") == 7


def test_check_passes_where_serving_would_work(scripted: Terminal) -> None:
    said = scripted.run("check")
    assert said.code == 0, said.out
    assert "fail" not in said.out


def test_check_reads_the_folder_of_prompts_and_changes_nothing(
    scripted: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = write(tmp_path / "prompts", FILES)
    monkeypatch.setenv("POINTSMAN_PROMPTS__FOLDER", str(root))
    for _ in range(2):
        said = scripted.run("check")
        assert (said.code, "1 new versions" in said.out) == (0, True), said.out
    write(root, {"a/b/b.prompt.yaml": "messages: [\n"})
    said = scripted.run("check")
    assert (said.code, "a/b/b.prompt.yaml:2" in said.out) == (1, True), said.out


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("POINTSMAN_BAR", "[/bold]", "POINTSMAN_BAR='[/bold]'"),
        ("POINTSMAN_PORT", "http", "POINTSMAN_PORT='http'"),
        ("POINTSMAN_MODELS", "[/bold]", "POINTSMAN_MODELS: no model [/bold]"),
        ("POINTSMAN_CATALOG", "/[/nowhere].yaml", "/[/nowhere].yaml: no such file"),
        ("POINTSMAN_DATABASE_URL", "nosuch://[/x]", "POINTSMAN_DATABASE_URL"),
    ],
)
def test_check_names_the_setting_that_is_wrong(
    scripted: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    said = scripted.run("check")
    assert said.code == 1
    assert told in said.out


def test_check_lists_every_mistake_of_the_file_and_what_to_do(scripted: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("port: 0\nbar: [x]\nprot: 1\n", encoding="utf-8")
    for arguments in (("check", "--config", str(path)), ("--config", str(path), "check")):
        said = scripted.run(*arguments)
        assert said.code == 1
        for told in (f"{path}:1: port: 0: must be 1 or more", f"{path}:2: bar: ", f"{path}:3: prot: not permitted"):
            assert told in said.out
        assert "did you mean port?" in said.out


def test_the_file_in_the_folder_is_found(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "pointsman.yaml").write_text(CATALOG, encoding="utf-8")
    said = terminal.run("check")
    assert said.code == 0, said.out
    assert "pointsman.yaml and every POINTSMAN_* variable is valid" in said.out
    assert "serves small, large" in said.out


def test_check_names_the_keys_that_are_missing(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LARGE_KEY", raising=False)
    row = "{name: %s, engine: openai, tier: 0, context_tokens: 1, base_url: 'http://h/v1', api_key_env: LARGE_KEY}"
    (tmp_path / "pointsman.yaml").write_text(f"models:\n- {row % 'a'}\n- {row % 'b'}\n", encoding="utf-8")
    said = terminal.run("check")
    assert said.code == 1
    assert "LARGE_KEY is not set; export it for a, b" in said.out
    monkeypatch.setenv("LARGE_KEY", "hunter2")
    said = terminal.run("check")
    assert said.code == 0, said.out
    assert "hunter2" not in said.out


def test_a_configuration_of_litellm_is_taken_over(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "model_list:\n- model_name: m\n  litellm_params: {model: openai/x, api_base: 'http://h/v1', rpm: 6}\n",
        encoding="utf-8",
    )
    said = terminal.run("import", "litellm", "config.yaml", "-o", "pointsman.yaml")
    assert said.code == 0, said.err
    assert "config.yaml:3: model_list.0.litellm_params.rpm: " in said.err
    assert "serves m" in terminal.run("check").out
    again = terminal.run("import", "litellm", "config.yaml", "-o", "pointsman.yaml")
    assert (again.code, "--force" in again.err) == (1, True)
    assert terminal.run("import", "litellm", "config.yaml", "-o", "pointsman.yaml", "--force").code == 0
    assert "models:" in terminal.run("import", "litellm", "config.yaml").out


@pytest.mark.parametrize("content", [None, "a: [", "- x"])
def test_what_cannot_be_taken_over_is_one_message(terminal: Terminal, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content, encoding="utf-8")
    said = terminal.run("import", "litellm", "config.yaml")
    assert said.code == 1
    assert said.err.startswith("error: config.yaml")


def test_doctor_says_what_is_here_and_what_to_do_about_the_rest(terminal: Terminal) -> None:
    said = terminal.run("doctor")
    assert "python" in said.out
    assert "missing: qwen2.5-coder-0.5b-instruct-q4_k_m" in said.out
    assert "pointsman models pull" in said.out
    assert said.err == ""


def test_doctor_needs_no_weights_where_none_are_served(scripted: Terminal) -> None:
    said = scripted.run("doctor")
    assert said.code == 0, said.out
    assert "all here" in said.out


@pytest.mark.parametrize("command", [("doctor",), ("models", "list"), ("keys", "list"), ("route", "x"), ("serve",)])
def test_a_wrong_setting_is_one_message_and_no_traceback(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("POINTSMAN_PORT", "[/bold]")
    said = terminal.run(*command)
    assert said.code == 1
    assert said.err.startswith("error: POINTSMAN_PORT='[/bold]': ")


def test_every_operators_error_is_told_apart_from_a_bug() -> None:
    assert all(issubclass(kind, Exception) for kind in OPERATOR_ERRORS)
    assert not any(issubclass(RuntimeError, kind) for kind in OPERATOR_ERRORS)


# Serving, in a process of its own.


def start(tmp_path: Path, port: int) -> subprocess.Popen[str]:
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    own = {
        "POINTSMAN_DATA_DIR": str(tmp_path / "data"),
        "POINTSMAN_CACHE_DIR": str(tmp_path / "cache"),
        "POINTSMAN_CATALOG": str(tmp_path / "catalog.yaml"),
        "POINTSMAN_MODELS": "all",
        "POINTSMAN_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        env={**others, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_port_in_use_is_told_with_the_way_to_another_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, start(tmp_path, taken.getsockname()[1]) as serving:
        _, err = serving.communicate(timeout=START_SECONDS)
    assert serving.returncode == 1
    assert "is in use" in err
    assert "PORT=" in err
    assert "Traceback" not in err
    assert not (tmp_path / "data" / "pointsman.db").exists(), "nothing was begun"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_first_start_shows_a_key_that_works_and_a_signal_ends_it_all(tmp_path: Path, stop: signal.Signals) -> None:
    port = unused_port()
    with start(tmp_path, port) as serving:
        try:
            assert serving.stdout is not None
            lines = iter(serving.stdout.readline, "")
            key = next(line for line in lines if "Your API key" in line).split()[-1]
            answer = httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 200
            serving.send_signal(stop)
            _, err = serving.communicate(timeout=START_SECONDS)
        finally:
            serving.kill()
    assert serving.returncode == 0, err
    assert "Traceback" not in err


def test_router_shows_what_was_learned_and_forgets_it_per_template_and_model(terminal: Terminal) -> None:
    settings = load_settings()
    small = load_catalog(settings.catalog).models[settings.models[0]]
    store = RecordStore(open_database(settings.database))
    for template in ("a", "b"):
        store.change((template, small.build), lambda record: restart(record, Cause.RATE_FELL, 1.0))
    lines = [json.loads(line) for line in terminal.run("router", "export").out.splitlines()]
    assert [(line["template"], line["model"], line["verdict"]) for line in lines] == [
        ("a", small.name, "suspended"),
        ("b", small.name, "suspended"),
    ]
    assert terminal.run("router", "reset", "a", "--model", settings.models[1]).out.startswith("0 records")
    assert terminal.run("router", "reset", "a", "--model", small.name).out.startswith("1 records")
    [line] = [json.loads(line) for line in terminal.run("router", "export", "--template", "a").out.splitlines()]
    assert (line["verdict"], line["cause"], line["record"]["generations"][0]["number"]) == ("unknown", "reset", 3)
    assert "no model nobody is served" in terminal.run("router", "reset", "a", "--model", "nobody").err


def test_router_rehearses_its_promise(terminal: Terminal) -> None:
    said = terminal.run("router", "rehearse", "--runs", "1")
    assert said.code == 0
    assert "evidence at run time" in said.out
    assert "promised: broken in at most 5.0% of runs" in said.out


def test_ladder_report_shows_what_signals_tell_for_each_pair_of_neighbouring_tiers(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = load_catalog(BUILTIN_CATALOG).chatting
    rows = [
        Outcome(f"p{n}", "t", "k", m.name, m.build, n % 3 > 0, "stop", 1, 1, -0.1 * n, None, None, said=str(n % 2))
        for m in models[1:]
        for n in range(12)
    ]
    monkeypatch.setattr("gateway.cli.ladder.read_outcomes", lambda: iter(rows))
    said = terminal.run("ladder", "report", "--signals")
    assert said.code == 0, said.err
    for small, second in pairwise(models):
        assert f"{small.name}, asked beside {second.name}" in said.out
    assert said.out.count("12 prompts of 1 tasks, 8 right, 12 agree") == len(models) - 2
    assert "no prompt on which both said something" in said.out
    assert "both, over agreement" in said.out
