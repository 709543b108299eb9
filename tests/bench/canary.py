"""`python -m tests.bench.canary [--for-all] [--bar 0.7]`: a downshift on the demo models, and its canary.

As an operator would do it: the prompt serves from the safe tier; `downshift` writes a text for the 0.5B, which a canary
tries; then letters that are in no suite (letters.jsonl) are asked through the front door, drawn again and again, until
the label has moved, the canary has gone back, or --requests are over.
"""

import argparse
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import yaml
from openai import OpenAI

from tests.bench.grid import Cell, Grid
from tests.bench.measure import machine
from tests.bench.pupil import LETTERS, PROMPT, READY_SECONDS, ask, do, set_up
from tests.gateway.test_workers import make_key
from tests.real.server import LARGE, SMALL, serving

LOOK_EVERY = 20  # requests


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.canary", description=__doc__)
    parser.add_argument("--for-all", action="store_true", help="the text that was found becomes that of all tiers")
    parser.add_argument("--bar", default="safe-0.1", help="the operator's, which the canary is held against (safe-0.1)")
    parser.add_argument("--requests", type=int, default=2500, help="at most (2500)")
    asked = parser.parse_args()
    letters = [orjson.loads(line) for line in LETTERS.read_bytes().splitlines()]
    dice = random.Random(0)
    with TemporaryDirectory() as place:
        folder, prompts = set_up(Path(place))
        settings = {"POINTSMAN_MODELS": f"{SMALL},{LARGE}", "POINTSMAN_BAR": asked.bar}
        at = ("--dir", str(prompts))
        do(folder, settings, "test", PROMPT, *at, "--failures", "0")
        do(folder, settings, "push", *at)
        do(folder, settings, "promote", PROMPT, "latest", "--exclude", "small")
        do(
            folder,
            settings,
            "downshift",
            PROMPT,
            *at,
            "--search",
            "examples",
            "--write" if asked.for_all else "--canary",
        )
        if asked.for_all:
            _tell_all(prompts / PROMPT)
            do(folder, settings, "test", PROMPT, *at, "--failures", "0")
            do(folder, settings, "push", *at)
            do(folder, settings, "canary", f"{PROMPT}@2")
        seen: Counter[tuple[str, str, bool]] = Counter()
        with serving(folder, settings) as server:
            server.wait_until_ready(READY_SECONDS)
            client = OpenAI(
                base_url=f"{server.base_url}/v1", api_key=make_key(folder, "--role", "admin"), max_retries=0
            )
            stage, done = _canary(client), 0
            while stage["stage"] == "widening" and done < asked.requests:
                for letter in dice.choices(letters, k=LOOK_EVERY):
                    one = ask(client, letter)
                    seen[f"{stage['share']:.0%}", one.model, one.right] += 1
                done += LOOK_EVERY
                now = _canary(client)
                if (now["stage"], now["share"]) != (stage["stage"], stage["share"]):
                    print(f"after {done} requests: {now['stage']}, takes {now['share']:.0%}: {now['why']}", flush=True)
                stage = now
            print(f"at the end, after {done} requests: {stage['stage']}: {stage['why']}", flush=True)
            for letter in letters:
                one = ask(client, letter)
                seen["afterwards", one.model, one.right] += 1
            assert server.stop() == 0
        do(folder, settings, "history", PROMPT)
    steps = sorted({(share, model) for share, model, _ in seen})
    rows: list[list[Cell]] = [[*step, seen[*step, True] + seen[*step, False], seen[*step, True]] for step in steps]
    Grid(f"A canary of a downshift; {machine()}", ("share", "answered by", "letters", "right"), rows).show()


def _tell_all(folder: Path) -> None:
    """What was written for the 0.5B alone becomes the prompt's own text, with the marks of what it was made from."""
    own, variant = folder / f"{PROMPT}.prompt.yaml", folder / f"{PROMPT}.small.prompt.yaml"
    found = yaml.safe_load(variant.read_text(encoding="utf-8"))
    made = {**yaml.safe_load(own.read_text(encoding="utf-8")), **{k: found[k] for k in ("messages", "fitted")}}
    own.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    variant.unlink()


def _canary(client: OpenAI) -> dict[str, Any]:
    said: Any = client.get(f"/prompts/{PROMPT}/labels/production/canary", cast_to=dict[str, Any])
    return dict(said)


if __name__ == "__main__":
    main()
