"""`python -m tests.bench.consented FOLDER`: a pupil taught by answers that callers gave for it, on the demo models.

Letters that are in no suite (letters.jsonl) are answered by the 1.5B through the front door, kept, and given with their
metadata; then `pointsman models distill --from-responses` teaches the 135M by them and by the suite's train cases, and
examines it. FOLDER is where the pupil goes. Needs POINTSMAN_TORCH_PYTHON.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from openai import OpenAI

from gateway.cli.compress.consented import CONSENT, GIVEN
from tests.bench.pupil import LETTERS, PROMPT, READY_SECONDS, do, set_up
from tests.gateway.test_workers import make_key
from tests.real.server import LARGE, TINY, environment, serving


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.consented", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    out: Path = parser.parse_args().folder.resolve()
    letters = [orjson.loads(line) for line in LETTERS.read_bytes().splitlines()]
    with TemporaryDirectory() as place:
        folder, prompts = set_up(Path(place))
        settings = {"POINTSMAN_MODELS": f"{TINY},{LARGE}"}
        at = ("--dir", str(prompts))
        do(folder, settings, "test", PROMPT, *at, "--tiers", "large", "--failures", "0")
        do(folder, settings, "push", *at)
        do(folder, settings, "promote", PROMPT, "latest", "--exclude", "small")
        with serving(folder, settings) as server:
            server.wait_until_ready(READY_SECONDS)
            client = OpenAI(base_url=f"{server.base_url}/v1", api_key=make_key(folder), max_retries=0)
            right = sum(_answered(client, letter["message"]) == letter["answer"] for letter in letters)
            assert server.stop() == 0
        print(f"\nkept and given: {len(letters)} answers, {right} of them right", flush=True)
        words = ("models", "distill", TINY, "--prompt", PROMPT, *at, "--from-responses", "--out", str(out))
        print(f"\n$ pointsman {' '.join(words)}", flush=True)
        python = {name: os.environ[name] for name in ("POINTSMAN_TORCH_PYTHON",) if name in os.environ}
        told = {**environment(folder, settings), **python, "COLUMNS": "120"}
        subprocess.run([sys.executable, "-m", "gateway", *words], env=told, check=True)


def _answered(client: OpenAI, message: str) -> str:
    prompt: Any = {"id": PROMPT, "variables": {"message": message}}
    return client.responses.create(prompt=prompt, metadata={CONSENT: GIVEN}).output_text.strip()


if __name__ == "__main__":
    main()
