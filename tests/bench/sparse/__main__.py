"""`python -m tests.bench.sparse layer | steps FOLDER | quality FOLDER`, see the package."""

import argparse
import os
from pathlib import Path

from models.sparse.budget import PREFIX, budget_from


def main() -> None:
    """Print the tables, in Markdown, as they grow. POINTSMAN_SPARSE_* may ask for another budget than 1,024 tokens."""
    os.environ.setdefault(f"{PREFIX}BUDGET_TOKENS", "1024")
    budget = budget_from(os.environ)
    assert budget is not None
    asked = _asked()
    if asked.part == "layer":
        from tests.bench.sparse import layer

        layer.measure(asked.context or [4096, 8192, 16384, 32768], asked.batch or [1, 6], budget)
    elif asked.part == "steps":
        from tests.bench.sparse import steps

        steps.measure(
            asked.folder,
            asked.context or [4096, 8192, 16384],
            asked.batch or [1],
            asked.block,
            asked.cache_gib,
            asked.shared,
        )
    else:
        from tests.bench.sparse import quality

        reader = quality.Reader(asked.folder)
        contexts = asked.context or [4096, 8192]
        ways = quality.policies(asked.budget or [512, 1024, 2048], budget.page_tokens, budget.dense_layers)
        if asked.places:
            quality.likelihood(reader, contexts, ways, asked.places)
        if asked.questions:
            quality.retrieval(reader, contexts, ways, asked.questions, asked.texts)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sparse", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    layer = parts.add_parser("layer", help="one layer's attention, dense and by pages")
    steps = parts.add_parser("steps", help="whole decode steps of vLLM")
    quality = parts.add_parser("quality", help="likelihood and retrieval")
    for part in (layer, steps, quality):
        part.add_argument("--context", type=int, nargs="+", metavar="TOKENS")
    for part in (steps, quality):
        part.add_argument("folder", type=Path, help="a model with its tokenizer, as transformers keeps it")
    for part in (layer, steps):
        part.add_argument("--batch", type=int, nargs="+")
    steps.add_argument("--block", type=int, default=32, help="tokens of a block of vLLM's cache (32)")
    steps.add_argument("--cache-gib", type=int, default=2, help="memory for the cache (2)")
    steps.add_argument("--shared", action="store_true", help="requests of a batch share all but their last token")
    quality.add_argument("--budget", type=int, nargs="+", metavar="TOKENS", help="(512 1024 2048)")
    quality.add_argument("--places", type=int, default=2, help="of the text whose likelihood is taken; 0: none (2)")
    quality.add_argument("--questions", type=int, default=24, help="one for each number hidden in a text; 0: none (24)")
    quality.add_argument("--texts", type=int, default=1, help="that numbers are hidden in (1)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
