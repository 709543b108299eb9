"""`pointsman prompts test` with a real model: asked, counted, kept, and the same again without asking."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prompts.receipt import Receipt
from tests.prompts.trees import write
from tests.real.server import SMALL, environment

pytestmark = pytest.mark.real

FILES = {
    "library.yaml": "tiers: [small]\n",
    "capital/capital.prompt.yaml": (
        "name: capital\ndescription: Name a capital\nmodelParameters: {temperature: 0, max_tokens: 8}\n"
        "inputs: {type: object, required: [country], properties: {country: {type: string}}}\n"
        "messages:\n"
        '  - {role: user, content: "What is the capital of {{ country }}? Answer with one word."}\n'
    ),
    "capital/tests.yaml": (
        "gate: {default: 0.3}\n"  # three of three prove 0.36
        "tests:\n"
        "  - {vars: {country: France}, assert: [{type: icontains, value: paris}]}\n"
        "  - {vars: {country: Italy}, assert: [{type: icontains, value: rome}]}\n"
        "  - {vars: {country: Germany}, assert: [{type: icontains, value: berlin}]}\n"
    ),
}
TIMEOUT_SECONDS = 110


def test_a_suite_is_run_on_a_real_model_and_what_it_answered_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "prompts", FILES)
    command = [sys.executable, "-m", "gateway", "prompts", "test", "capital", "--dir", str(tmp_path / "prompts")]
    for kept in (0, 3):
        done = subprocess.run(
            [*command, "--json", str(tmp_path / "out.json")],
            env=environment(tmp_path, {"POINTSMAN_MODELS": SMALL}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        [run] = json.loads((tmp_path / "out.json").read_bytes())["runs"]
        receipt = Receipt.read(run["receipt"])
        assert (run["model"], receipt.count.passed, run["answers"], run["kept"]) == (SMALL, 3, 3, kept)
        assert receipt.prompt_tokens is not None
        assert receipt.prompt_tokens > 0
        assert receipt.cost_usd is not None
        assert receipt.cost_usd > 0
    assert len(list((tmp_path / "data" / "prompts" / "receipts").iterdir())) == 1
