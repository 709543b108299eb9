"""The commands, with a worker that copies its source in place of one that needs torch: what they ask for, what they
write, and what they say to bad input.
"""

import json
import shutil
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import load_settings
from models.catalog import Model, load_catalog
from models.checkpoint import check, digest
from models.job import JobFailed, OnStep, Step
from models.weights import Numerics
from tests.models.checkpoints import write_checkpoint
from tests.terminal import Terminal

TRIALS: list[dict[str, Any]] = [
    {"number": n, "size_bytes": s, "step_bytes": None, "perplexity": p, "drop": d, "keep": k, "channels": int(1536 * k),
     "budget_tokens": None, "bits": {"mlp 0": b}, "on_front": f, "rules": {"*": b}}
    for n, s, p, d, k, b, f in [(0, 60_000_000, 50.0, 0, 1.0, 8, True), (1, 11**8, 38.0, 1, 0.75, 8, True),
                                (2, 12**8, 45.0, 0, 1.0, 8, False), (3, 13**8, 37.0, 0, 1.0, 16, True)]
]  # fmt: skip
RESULTS: dict[str, Mapping[str, Any]] = {
    "quantize": {"bits_per_weight": 4.25},
    "prune": {"zeros": 0.5},
    "measure": {"perplexity": 37.25, "tokens": 1024, "weights_bytes": 113_000_000},
    "search": {"trials": TRIALS, "influences": [0.1, 0.2], "context_tokens": None},
}


class Worker:
    """In place of `models.job.run`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.fails: str | None = None

    def __call__(self, python: Path, module: str, document: Mapping[str, Any], on_step: OnStep) -> dict[str, Any]:
        job, settings = document["job"], document["settings"]
        self.asked.append((job, settings))
        on_step(Step("block 0", 0, 1))
        if self.fails:
            raise JobFailed(self.fails)
        if "result" in settings and job != "search":
            shutil.copytree(settings["source"], settings["result"])
        return dict(RESULTS[job])


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: Terminal) -> Worker:
    made = Worker()
    monkeypatch.setattr("models.job.run", made)
    monkeypatch.setattr("gateway.cli.compress.running.torch_python", lambda *_: Path("python"))
    monkeypatch.setenv("POINTSMAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "whole")


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "--method", "rtn-w4a16"),
        ("quantize", "--method", "nf4"),
        ("prune", "--method", "wanda", "--pattern", "2:4"),
        ("prune", "--method", "depth", "--drop", "2"),
        ("prune", "--method", "width", "--keep", "0.75"),
    ],
)
def test_what_is_made_has_a_card_and_a_row_that_names_it(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The row can be put into a catalogue as it is, and the papers are no part of the digest."""
    out = tmp_path / "builds" / "made"
    before = digest(folder)

    said = terminal.run("models", arguments[0], str(folder), *arguments[1:], "--out", str(out))

    assert said.code == 0, said.err
    assert digest(out) == before
    row = yaml.safe_load((out / "row.yaml").read_text())
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"models": row}))
    [model] = load_catalog(catalog)
    assert (model.name, model.engine) == ("made", "transformers" if "nf4" in arguments else "vllm")
    assert model.checkpoint is not None
    assert model.checkpoint.sha256 == before[0]
    card = json.loads((out / "card.json").read_text())
    assert (card["command"], card["of"]["name"], card["build"]) == (arguments[0], "whole", model.build)
    assert card["facts"]["method"] == arguments[2]
    assert f"Made by `pointsman models {arguments[0]}` of `whole`" in (out / "README.md").read_text()
    assert "- name: made" in said.out
    assert check(out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prune", "--method", "wanda"), "--method wanda takes --share or --pattern"),
        (("prune", "--method", "depth", "--share", "0.5"), "--method depth takes --drop"),
        (("prune", "--method", "depth", "--drop", "1", "--share", "0.5"), "--method depth takes --drop"),
        (("prune", "--method", "width", "--drop", "1"), "--method width takes --keep"),
        (("prune", "--method", "wanda", "--keep", "0.5"), "--method wanda takes --share or --pattern"),
        (("prune", "--method", "wanda", "--pattern", "4:8"), "--pattern 4:8: there is one, 2:4"),
        (("quantize", "--method", "nf4", "--bits-per-layer", "BITS"), "nf4 has the same bits everywhere"),
        (("quantize", "--method", "w8a8", "--bits-per-layer", "BAD"), "must be lines of a pattern and its bits"),
    ],
)
def test_wishes_that_do_not_go_together_are_one_message(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "BITS").write_text("'*.down_proj': 8\n")
    (tmp_path / "BAD").write_text("'*.down_proj': many\n")
    given = [str(tmp_path / one) if one in ("BITS", "BAD") else one for one in arguments]

    said = terminal.run("models", given[0], str(folder), *given[1:], "--out", str(tmp_path / "made"))

    assert said.code == 1
    assert says in said.err
    assert not worker.asked


def test_bits_per_layer_are_asked_for_as_written(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path
) -> None:
    bits = tmp_path / "bits.yaml"
    bits.write_text("'*.down_proj': 8\nmodel.layers.0.*: 16\n")

    wish = ("--method", "rtn-w4a16", "--bits-per-layer", str(bits), "--out", str(tmp_path / "made"))
    terminal.run("models", "quantize", str(folder), *wish)

    [(job, asked)] = worker.asked
    assert (job, asked["bits"]) == ("quantize", {"*.down_proj": 8, "model.layers.0.*": 16})


def test_what_a_job_refuses_is_told_and_nothing_is_written(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path
) -> None:
    worker.fails = "model.safetensors: was cut short"

    said = terminal.run("models", "quantize", str(folder), "--method", "w8a8", "--out", str(tmp_path / "made"))

    assert (said.code, "was cut short" in said.err) == (1, True)
    assert not (tmp_path / "made").exists()


def test_an_unknown_model_is_answered_with_those_that_there_are(terminal: Terminal, worker: Worker) -> None:
    said = terminal.run("models", "quantize", "nobody", "--method", "w8a8", "--out", "made")

    assert said.code == 1
    assert "nobody is no folder, and no row of the catalogue; it has: smollm2-135m-instruct-q4_1" in said.err


def test_without_torch_the_remedy_is_told(terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.torch_python.find_spec", lambda _: None)

    said = terminal.run("models", "quantize", str(folder), "--method", "w8a8", "--out", "made")

    assert said.code == 1
    assert "make torch" in said.err


def test_a_bench_without_an_engine_keeps_what_it_measured(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path
) -> None:
    """In the folder of what was made, and for `card` and `advise`."""
    out = tmp_path / "made"
    terminal.run("models", "quantize", str(folder), "--method", "w8a8", "--out", str(out))

    said = terminal.run("models", "bench", str(out), "--no-serve")

    assert said.code == 0, said.err
    assert "37.25" in said.out
    card = json.loads((out / "card.json").read_text())
    assert card["measured"]["perplexity"] == 37.25
    assert "| perplexity | 37.25 |" in (out / "README.md").read_text()
    assert [path.stem for path in (tmp_path / "data" / "builds").iterdir()] == [card["build"]]
    shown = terminal.run("models", "card", str(out))
    assert "quantize of whole" in shown.out
    assert "113" in shown.out


def test_what_was_measured_before_stays_in_the_card_of_a_row(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second bench that measures something else adds to it."""
    from gateway.cli.compress.rows import checkpoint_row, yaml_of

    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("models:\n" + yaml_of(checkpoint_row(folder, None, "vllm", "a-row")))
    monkeypatch.setenv("POINTSMAN_CATALOG", str(catalog))
    for more in ((), ("--no-perplexity",)):
        said = terminal.run("models", "bench", "a-row", "--no-serve", *more)
        assert said.code == 0, said.err

    assert "37.25" in terminal.run("models", "card", "a-row").out


def test_of_what_was_never_measured_there_is_no_card(terminal: Terminal, worker: Worker, folder: Path) -> None:
    said = terminal.run("models", "card", str(folder))

    assert said.code == 1
    assert "has no card.json; pointsman models bench" in said.err


def test_a_search_leaves_a_page_and_a_file_of_bits_for_each_build_of_the_front(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "front"

    said = terminal.run("models", "search", str(folder), "--out", str(out))

    assert said.code == 0, said.err
    page = (out / "front.html").read_text()
    assert page.count("<circle") == len(TRIALS)
    made = (
        "pointsman models prune whole --method depth --drop 1 --out PRUNED",
        "pointsman models prune PRUNED --method width --keep 0.75 --out NARROWED",
        f"pointsman models quantize NARROWED --bits-per-layer {out / '1.bits.yaml'} --method rtn-w4a16 --out BUILD",
    )
    assert escape(" && ".join(made)) in page
    assert "<code>whole as it is</code>" in page
    assert sorted(path.name for path in out.glob("*.bits.yaml")) == ["0.bits.yaml", "1.bits.yaml", "3.bits.yaml"]
    assert "3 of 4 builds are on the front" in said.out
    [(_, asked)] = worker.asked
    assert asked["text"]
    assert not set(asked["text"].split("\n\n")) & set(asked["calibration"].split("\n\n"))
    again = terminal.run("models", "search", str(folder), "--out", str(out))
    assert (again.code, "is there already" in again.err) == (1, True)


def test_a_search_for_a_context_shows_what_a_step_reads_and_how_a_row_says_it(
    terminal: Terminal, worker: Worker, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page names the key as rows have it."""
    trials = [{**TRIALS[0], "step_bytes": 10**8}, {**TRIALS[1], "step_bytes": 7 * 10**7, "budget_tokens": 512}]
    monkeypatch.setitem(RESULTS, "search", {"trials": trials, "influences": [], "context_tokens": 4096})

    (text := tmp_path / "long.txt").write_text("many words\n" * 100)
    wish = ("--context", "4096", "--calibration", str(text), "--group", "32", "--out", str(tmp_path / "front"))
    said = terminal.run("models", "search", str(folder), *wish)

    assert said.code == 0, said.err
    [(_, asked)] = worker.asked
    assert (asked["context"], asked["least_width"]) == (4096, 0.75)
    page = (tmp_path / "front" / "front.html").read_text()
    assert "<th>MB that a step reads at 4,096 tokens</th>" in page
    assert f"--keep 0.75 --calibration {text} --out NARROWED" in page
    made, says = "--method rtn-w4a16 --group 32 --out BUILD", "numerics: {attention_budget_tokens: 512}"
    assert f"{made}; in its row for vLLM: {says}</code>" in page
    assert Numerics.model_validate({"attention_budget_tokens": 512}).attention_budget_tokens == 512
    assert [row["budget_tokens"] for row in json.loads((tmp_path / "front" / "trials.json").read_text())["trials"]] == [
        None,
        512,
    ]
    assert said.out.index("70.0") < said.out.index("100.0")


@pytest.mark.parametrize("command", ["quantize", "prune", "distill", "search", "bench", "card", "advise"])
def test_help_teaches_by_an_example(terminal: Terminal, command: str) -> None:
    said = terminal.run("models", command, "--help")

    assert said.code == 0
    assert f"pointsman models {command}" in said.out


def test_settings_know_the_rows_that_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints stands in the settings file under `models:` as it is."""
    from gateway.cli.compress.rows import checkpoint_row, row_in, yaml_of

    folder = write_checkpoint(tmp_path / "build")
    row = checkpoint_row(folder, None, "vllm")
    (folder / "row.yaml").write_text(yaml_of(row))
    config = tmp_path / "pointsman.yaml"
    config.write_text("models:\n" + yaml_of(row))
    monkeypatch.setenv("POINTSMAN_CONFIG", str(config))

    rows: tuple[Model, ...] = load_settings().rows

    assert rows == (row,)
    assert row_in(folder) == row
