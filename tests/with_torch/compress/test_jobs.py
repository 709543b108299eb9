"""Whole jobs on a small model: what they make, what they refuse, and that an interruption changes nothing."""

import json
import os
import shutil
import time
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import digest
from models.compress.__main__ import do
from models.compress.checkpoint import look
from models.compress.laboratory import Build, Laboratory
from models.compress.loading import model_of, tokenizer_of, windows
from models.compress.measure import perplexity
from models.compress.width import importances
from models.job import JobFailed, Step
from tests.with_torch.compress.conftest import TEXT, WORDS, config_of

Make = Callable[..., Path]
ROWS = [{"messages": [{"role": "user", "content": f"{letter} red"}], "answer": answer}
        for letter, answer in zip("abcdefgh" * 3, ["yes", "no"] * 12, strict=True)]  # fmt: skip


class Stopped(Exception):
    """As a Ctrl-C does, in the middle of a job."""


def run(job: str, folder: Path, result: Path, stop_at: int | None = None, **asked: Any) -> dict[str, Any]:
    """*stop_at*: the step at which it is interrupted."""
    seen = 0

    def on_step(step: Step) -> None:
        nonlocal seen
        seen += 1
        if seen == stop_at:
            raise Stopped

    settings = {"source": str(folder), "result": str(result), **asked}
    return dict(do({"job": job, "settings": settings, "work": str(result.parent / "work")}, on_step))


QUANTIZE: dict[str, Any] = {"group": 32, "bits": {}, "calibration": [TEXT]}
TEACH = {"examples": ROWS, "validation": ROWS[:8], "teaching": {"epochs": 4, "batch": 4, "look_every": 3, "rank": 2}}
JOBS: list[tuple[str, dict[str, Any]]] = [
    ("quantize", {"method": "rtn-w4a16", **QUANTIZE}),
    ("quantize", {"method": "gptq-w4a16", **QUANTIZE}),
    ("quantize", {"method": "w8a8", **QUANTIZE}),
    ("prune", {"method": "magnitude", "share": 0.5, "calibration": []}),
    ("prune", {"method": "wanda", "share": 0.5, "calibration": [TEXT]}),
    ("prune", {"method": "wanda", "pattern": "2:4", "calibration": [TEXT]}),
    ("prune", {"method": "depth", "drop": 1, "calibration": [TEXT]}),
    ("prune", {"method": "width", "keep": 0.5, "calibration": [TEXT]}),
    ("distill", TEACH),
]
each_job = pytest.mark.parametrize(("job", "asked"), JOBS, ids=[f"{j} {a.get('method', '')}" for j, a in JOBS])


@each_job
def test_an_interrupted_job_goes_on_to_the_same_bytes(make_checkpoint: Make, job: str, asked: dict[str, Any]) -> None:
    """Also where it is interrupted again and again."""
    folder = make_checkpoint()
    straight, broken = folder.parent / "straight" / "out", folder.parent / "broken" / "out"
    straight.parent.mkdir()
    broken.parent.mkdir()
    run(job, folder, straight, **asked)

    for stop_at in (2, 3):
        with pytest.raises(Stopped):
            run(job, folder, broken, stop_at, **asked)
        assert not broken.exists()
        assert not list(broken.parent.glob(".*.draft"))
    run(job, folder, broken, **asked)

    assert digest(broken) == digest(straight)


@each_job
def test_what_is_made_is_a_checkpoint_that_computes(make_checkpoint: Make, job: str, asked: dict[str, Any]) -> None:
    folder = make_checkpoint()
    for path in folder.iterdir():  # as they lie in the store
        path.chmod(0o444)
    made = folder.parent / "made"

    run(job, folder, made, **asked)

    found = look(made)
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o644}
    assert found.size_bytes > 0
    assert {path.name for path in made.iterdir()} >= {"config.json", "tokenizer.json", "chat_template.jinja"}
    assert list((made.parent / "work").iterdir()) == []
    if not found.is_quantized:
        assert perplexity(model_of(found), torch.arange(16).unsqueeze(0)) > 0


@each_job
def test_a_result_that_is_there_is_never_written_over(make_checkpoint: Make, job: str, asked: dict[str, Any]) -> None:
    folder = make_checkpoint()
    (folder.parent / "made").mkdir()

    with pytest.raises(JobFailed, match=r"is there already; nothing was written. Name another with --out"):
        run(job, folder, folder.parent / "made", **asked)


@each_job
def test_too_small_a_disk_is_told_before_anything_is_done(
    make_checkpoint: Make, job: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 999, 1))

    with pytest.raises(JobFailed, match=r"MB needed, 0 MB free; make room"):
        run(job, folder, folder.parent / "made", **asked)
    assert not (folder.parent / "made").exists()


def test_a_second_process_at_the_same_job_is_sent_away(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    asked: dict[str, Any] = {"method": "rtn-w4a16", **QUANTIZE}

    def meanwhile(_: Step) -> None:
        with pytest.raises(JobFailed, match="another process does the same already"):
            run("quantize", folder, folder.parent / "made", **asked)

    settings = {"source": str(folder), "result": str(folder.parent / "made"), **asked}
    do({"job": "quantize", "settings": settings, "work": str(folder.parent / "work")}, meanwhile)


def test_what_nobody_goes_on_with_is_removed(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    asked: dict[str, Any] = {"method": "rtn-w4a16", **QUANTIZE}
    with pytest.raises(Stopped):
        run("quantize", folder, folder.parent / "one", 3, **asked)
    [left] = (folder.parent / "work").iterdir()
    month_ago = time.time() - 30 * 86_400
    os.utime(left, (month_ago, month_ago))

    run("quantize", folder, folder.parent / "two", **asked)

    assert not left.exists()


def break_by(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    match how:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "corrupt":
            weights.write_bytes(b"\xff" * 1000)
        case "pickle":
            weights.rename(folder / "pytorch_model.bin")
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "no template":
            (folder / "chat_template.jinja").unlink()
        case "unknown architecture":
            (folder / "config.json").write_text(
                json.dumps({**config_of(folder), "architectures": ["GhostForCausalLM"]})
            )
        case "a block is missing":
            tensors = {n: t for n, t in load_file(weights).items() if not n.startswith("model.layers.1.")}
            save_file(tensors, weights, {"format": "pt"})
        case "quantised already":
            say(folder, "quantization_config", {"quant_method": "gptq"})
        case "code of its own":
            say(folder, "auto_map", {"AutoModel": "x.Y"})


def say(folder: Path, key: str, value: object) -> None:
    """In its config."""
    (folder / "config.json").write_text(json.dumps({**config_of(folder), key: value}))


BROKEN = {
    "truncated": "cut short",
    "corrupt": "is no safetensors file, or is cut short",
    "pickle": "is a pickle",
    "no tokenizer": "has no tokenizer",
    "no template": "has no chat template",
    "unknown architecture": "architecture GhostForCausalLM is not known here",
    "a block is missing": "weights of block 1 of 3 are not there",
    "quantised already": r"is quantised already \(gptq\); name the checkpoint that it was made from",
    "code of its own": "names code of its own",
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(("job", "asked"), [JOBS[0], JOBS[3], JOBS[-1]], ids=["quantize", "prune", "distill"])
def test_a_bad_checkpoint_is_refused_with_its_reason(
    make_checkpoint: Make, job: str, asked: dict[str, Any], how: str
) -> None:
    folder = make_checkpoint()
    break_by(folder, how)

    with pytest.raises(JobFailed, match=BROKEN[how]):
        run(job, folder, folder.parent / "made", **asked)
    assert not (folder.parent / "made").exists()


def test_calibration_mends_what_rounding_breaks(make_checkpoint: Make) -> None:
    """On the calibration text itself, over all blocks."""
    folder = make_checkpoint()
    dense = model_of(look(folder))
    ids = torch.randint(0, len(WORDS), (4, 64))
    wanted = dense(ids).logits
    lost = {}
    for method in ("rtn-w4a16", "gptq-w4a16"):
        made = folder.parent / method
        run("quantize", folder, made, method=method, **QUANTIZE)
        lost[method] = (_as_dense(made, dense)(ids).logits - wanted).square().mean()

    assert lost["gptq-w4a16"] < lost["rtn-w4a16"]


def _as_dense(made: Path, dense: Any) -> Any:
    """The model that computes with what is stored in *made*."""
    from copy import deepcopy

    from models.compress.rounding import Rounded, unpacked

    model, tensors = deepcopy(dense), load_file(made / "model.safetensors")
    for name, module in model.named_modules():
        if f"{name}.weight_packed" in tensors:
            levels = unpacked(tensors[f"{name}.weight_packed"], 4, module.in_features)
            module.weight.data.copy_(Rounded(levels, tensors[f"{name}.weight_scale"]).dense)
    return model


def test_fewer_blocks_are_the_ones_that_change_most(make_checkpoint: Make) -> None:
    folder = make_checkpoint(blocks=4)
    made = folder.parent / "made"

    result = run("prune", folder, made, method="depth", drop=2, calibration=[TEXT])

    least = sorted(sorted(range(4), key=lambda place: result["influences"][place])[:2])
    assert result["dropped"] == least
    assert config_of(made)["num_hidden_layers"] == 2
    kept = [place for place in range(4) if place not in least]
    old, new = load_file(folder / "model.safetensors"), load_file(made / "model.safetensors")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert [torch.equal(new[name.format(i)], old[name.format(kept[i])]) for i in range(2)] == [True, True]


def test_narrower_blocks_keep_the_channels_that_matter_most(make_checkpoint: Make) -> None:
    """What goes through the others is made so weak that they do not matter, and the model says what it said."""
    folder = make_checkpoint(spread=0.2)
    made, weights = folder.parent / "made", folder / "model.safetensors"
    tensors = load_file(weights)
    weak = torch.randperm(256)[:128]
    for place in range(3):
        tensors[f"model.layers.{place}.mlp.up_proj.weight"][weak] *= 1e-6
    save_file(tensors, weights, {"format": "pt"})

    result = run("prune", folder, made, method="width", keep=0.5, calibration=[TEXT])

    assert (result["width"], config_of(made)["intermediate_size"]) == (128, 128)
    strong = torch.tensor(sorted({*range(256)} - {*weak.tolist()}))
    new = load_file(made / "model.safetensors")
    for place in range(3):
        home = f"model.layers.{place}.mlp"
        for name in ("gate_proj", "up_proj"):
            assert torch.equal(new[f"{home}.{name}.weight"], tensors[f"{home}.{name}.weight"][strong])
        assert torch.equal(new[f"{home}.down_proj.weight"], tensors[f"{home}.down_proj.weight"][:, strong])
    ids = torch.arange(16).unsqueeze(0)
    assert (model_of(look(made))(ids).logits - model_of(look(folder))(ids).logits).abs().max() < 1e-3


def test_width_and_depth_go_one_after_the_other_and_are_quantised(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("prune", {"method": "depth", "drop": 1, "calibration": [TEXT]}),
        ("prune", {"method": "width", "keep": 0.5, "calibration": [TEXT]}),
        ("quantize", {"method": "rtn-w4a16", **QUANTIZE, "group": 64}),
    ]

    for place, (job, wish) in enumerate(wishes):
        run(job, folder, made := folder.parent / f"made-{place}", **wish)
        folder = made

    assert (config_of(folder)["num_hidden_layers"], config_of(folder)["intermediate_size"]) == (2, 128)


@pytest.mark.parametrize("keep", [0.9, 1.5, -1])
def test_a_width_that_leaves_nothing_out_is_refused(make_checkpoint: Make, keep: float) -> None:
    folder = make_checkpoint()

    with pytest.raises(JobFailed, match=r"of 256 channels a multiple of 128 stays.* name a share between 0 and 0.5"):
        run("prune", folder, folder.parent / "made", method="width", keep=keep, calibration=[TEXT])


def test_a_pupil_learns_what_it_is_taught(make_checkpoint: Make) -> None:
    """Forty steps over two dozen examples: the loss on them falls to a fraction. Weights so small as those of a new
    model would
    let no word stand out, whatever is learnt.
    """
    folder = make_checkpoint(spread=0.2)
    teaching = {"epochs": 20, "batch": 12, "rate": 0.02, "rank": 8, "look_every": 10}

    result = run("distill", folder, folder.parent / "made", examples=ROWS, validation=ROWS, teaching=teaching)

    losses = [row["validation"] for row in result["losses"]]
    assert min(losses) < 0.5 * losses[0]
    kept = next(row for row in result["losses"] if row["step"] == result["kept_step"])
    assert kept["validation"] == min(losses)


def test_a_rate_at_which_nothing_is_learnt_is_told(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    teaching = {"epochs": 2, "batch": 4, "rate": 1e20, "look_every": 1}

    with pytest.raises(JobFailed, match="the loss is no number any more; take a lower --rate"):
        run("distill", folder, folder.parent / "made", examples=ROWS, validation=ROWS, teaching=teaching)
    assert not (folder.parent / "made").exists()


def test_too_few_examples_are_refused(make_checkpoint: Make) -> None:
    folder = make_checkpoint()

    with pytest.raises(JobFailed, match="3 of 3 examples are within 1024 tokens; 8 are needed"):
        run("distill", folder, folder.parent / "made", examples=ROWS[:3], validation=ROWS)


@pytest.mark.parametrize("share", [1.0, -0.1, 7])
def test_a_share_that_is_none_is_refused(make_checkpoint: Make, share: float) -> None:
    folder = make_checkpoint()

    with pytest.raises(JobFailed, match="between 0 and 1"):
        run("prune", folder, folder.parent / "made", method="magnitude", share=share, calibration=[])


def test_zeros_are_as_many_as_asked_for(make_checkpoint: Make) -> None:
    folder = make_checkpoint()

    half = run("prune", folder, folder.parent / "half", method="wanda", share=0.5, calibration=[TEXT])
    pattern = run("prune", folder, folder.parent / "two", method="wanda", pattern="2:4", calibration=[TEXT])

    assert half["zeros"] == pytest.approx(0.5)
    assert pattern["zeros"] == pytest.approx(0.5)


def test_the_perplexity_of_a_random_model_is_that_of_guessing(make_checkpoint: Make) -> None:
    """Nearly: its small weights favour no word."""
    folder = make_checkpoint()

    result = do(
        {"job": "measure", "settings": {"source": str(folder), "text": TEXT}, "work": str(folder.parent / "w")},
        lambda _: None,
    )

    assert result["perplexity"] == pytest.approx(len(WORDS), rel=0.05)
    assert result["parameters"] == sum(p.numel() for p in model_of(look(folder)).parameters())


SEARCH: dict[str, Any] = {
    "trials": 8,
    "runs": 2,
    "most_dropped": 1,
    "least_width": 0.5,
    "context": None,
    "group": 32,
    "seed": 0,
    "calibration": TEXT,
    "text": TEXT,
}


def test_nothing_is_on_the_front_that_another_build_beats(make_checkpoint: Make) -> None:
    folder = make_checkpoint()

    found = run("search", folder, folder.parent / "made", **SEARCH)["trials"]

    assert len(found) == 8
    for one in found:
        better = [
            o
            for o in found
            if (o["size_bytes"] <= one["size_bytes"] and o["perplexity"] < one["perplexity"])
            or (o["size_bytes"] < one["size_bytes"] and o["perplexity"] <= one["perplexity"])
            or (o["number"] < one["number"] and all(o[name] == one[name] for name in ("bits", "drop", "keep")))
        ]
        assert one["on_front"] == (not better)


def test_a_search_begins_with_one_size_everywhere_and_its_bytes_are_those_of_a_build(make_checkpoint: Make) -> None:
    """The estimate is what `quantize` then writes for the matrices."""
    folder = make_checkpoint()

    found = run("search", folder, folder.parent / "made", **SEARCH)["trials"]
    made = folder.parent / "eight"
    run("quantize", folder, made, method="w8a8", **QUANTIZE)

    eight = next(row for row in found if row["number"] == 1)
    assert set(eight["bits"].values()) == {8}
    assert eight["size_bytes"] == sum(t.size_bytes for n, t in look(made).tensors.items() if "_proj." in n)


def test_a_build_of_the_front_can_be_made(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    found = run("search", folder, folder.parent / "made", **SEARCH)["trials"]
    row = next(row for row in found if row["on_front"] and not row["drop"] and set(row["bits"].values()) != {16})

    run("quantize", folder, folder.parent / "best", **{**QUANTIZE, "method": "rtn-w4a16", "bits": row["rules"]})

    assert look(folder.parent / "best").is_quantized


@pytest.mark.parametrize("stop_at", [8, 12])  # six of them look
def test_an_interrupted_search_keeps_its_trials(make_checkpoint: Make, stop_at: int) -> None:
    folder = make_checkpoint()
    with pytest.raises(Stopped):
        run("search", folder, folder.parent / "made", stop_at, **SEARCH)

    steps: list[Step] = []
    settings = {"source": str(folder), "result": str(folder.parent / "made"), **SEARCH}
    found = do({"job": "search", "settings": settings, "work": str(folder.parent / "work")}, steps.append)

    assert len(found["trials"]) == 8
    assert len(steps) < 8


def test_a_narrower_build_is_in_memory_what_prune_then_writes(make_checkpoint: Make) -> None:
    folder = make_checkpoint(spread=0.2)
    ids = torch.randint(0, len(WORDS), (2, 64))
    model = model_of(look(folder))
    matters = importances(model, windows(tokenizer_of(look(folder)), [TEXT], 256, 16), lambda _: None)
    laboratory = Laboratory(model, ids, 1, 32, [0.0] * 3, matters)
    narrow = Build({"self_attn 0": 16, "mlp 0": 16}, width=128)

    run("prune", folder, folder.parent / "made", method="width", keep=0.5, calibration=[TEXT])

    made = look(folder.parent / "made")
    assert laboratory.perplexity(narrow) == pytest.approx(exp(perplexity(model_of(made), ids)), rel=1e-5)
    assert laboratory.size_bytes(narrow) == sum(t.size_bytes for n, t in made.tensors.items() if "_proj." in n)
    whole = Build({"self_attn 0": 16, "mlp 0": 16})  # and back again
    assert laboratory.perplexity(whole) == pytest.approx(exp(perplexity(model_of(look(folder)), ids)), rel=1e-5)


LONG: dict[str, Any] = {**SEARCH, "context": 1024, "text": TEXT * 2}


def test_a_search_for_a_context_chooses_how_much_is_attended_to(make_checkpoint: Make) -> None:
    folder = make_checkpoint(spread=0.2, positions=2048)

    found = run("search", folder, folder.parent / "made", **LONG)

    by_bits = {(row["bits"]["mlp 0"], row["budget_tokens"]): row for row in found["trials"][:4]}
    assert [*by_bits] == [(4, None), (8, None), (16, None), (8, 256)]
    token = 2 * 16 * 2 * 2  # bytes: heads, their size, key and value, bfloat16
    whole, paged = by_bits[8, None], by_bits[8, 256]
    assert whole["step_bytes"] - whole["size_bytes"] == 3 * 1024 * token
    assert paged["step_bytes"] - paged["size_bytes"] == (2 * 1024 + 256 + 1024 // 32) * token
    assert whole["perplexity"] != paged["perplexity"]
    ids = windows(tokenizer_of(look(folder)), [TEXT * 2], 1024, 1)
    said = model_of(look(folder))(ids).logits[0, -257:-1].log_softmax(-1)
    assert by_bits[16, None]["perplexity"] == pytest.approx(
        exp(-float(said.gather(1, ids[0, -256:, None]).mean())), rel=1e-4
    )
    cheapest = min(found["trials"], key=lambda row: row["step_bytes"])
    assert cheapest["on_front"]
    assert found["context_tokens"] == 1024


@pytest.mark.parametrize(
    ("positions", "wish", "says"),
    [
        (512, {}, "the model was made for 512 tokens; name so many or fewer"),
        (2048, {"context": 1000}, "a context below 1024 tokens is read whole whatever the budget; name 1024 or more"),
        (2048, {"text": TEXT}, "has 960 tokens; name one of 2048 tokens or more with --calibration"),
    ],
)
def test_a_context_that_cannot_be_searched_for_is_refused(
    make_checkpoint: Make, positions: int, wish: dict[str, Any], says: str
) -> None:
    folder = make_checkpoint(positions=positions)

    with pytest.raises(JobFailed, match=says):
        run("search", folder, folder.parent / "made", **{**LONG, **wish})


@pytest.mark.filterwarnings("ignore")  # of bitsandbytes and what it imports
@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_bitsandbytes_checkpoints_are_read_by_transformers(make_checkpoint: Make, method: str) -> None:
    folder = make_checkpoint()
    made = folder.parent / "made"

    run("quantize", folder, made, method=method, **QUANTIZE)

    assert look(made).config["quantization_config"]["quant_method"] == "bitsandbytes"
    assert look(made).size_bytes < look(folder).size_bytes
    text = {"source": str(made), "text": TEXT}
    result = do({"job": "measure", "settings": text, "work": str(folder.parent / "w")}, lambda _: None)
    assert result["perplexity"] == pytest.approx(len(WORDS), rel=0.1)
