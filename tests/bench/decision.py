"""The decision's part: the router alone, template key and features included. No HTTP, no engine."""

import time
from statistics import median

import orjson

from gateway.builder import load_knowledge_for
from gateway.runtime import decide
from gateway.schema import parse_chat
from gateway.served import served_catalog
from gateway.settings import load_settings
from router.strategies import STRATEGIES
from tests.bench.gateway import BAR, TASK
from tests.bench.grid import Cell, Grid

DECISIONS = 2000
SENTENCE = "Take 10 steps. Turn left. "
LENGTHS = (23, 1230)  # sentences: about 600 characters, and 32,000, which are some 8,000 tokens


def measure_decisions() -> list[Grid]:
    """One request of a template with outcomes, one of no template."""
    settings = load_settings(bar=BAR)
    catalog = served_catalog(settings)
    knowledge = load_knowledge_for(catalog, settings)
    strategy = STRATEGIES[settings.strategy]()
    rows: list[list[Cell]] = []
    for sentences in LENGTHS:
        text = SENTENCE * sentences
        for name, fixed in (("by outcomes", [{"role": "system", "content": TASK}]), ("by looks", [])):
            messages = [*fixed, {"role": "user", "content": text}]
            request = parse_chat(orjson.dumps({"model": "auto", "messages": messages}), catalog)
            start = time.process_time()
            seconds = sorted(decide(strategy, knowledge, catalog, request)[1] for _ in range(DECISIONS))
            cpu_us = 1e6 * (time.process_time() - start) / DECISIONS
            basis = decide(strategy, knowledge, catalog, request)[0].basis.value
            p50_us, p99_us = 1e6 * median(seconds), 1e6 * seconds[int(0.99 * DECISIONS)]
            rows.append([f"{name}, {len(text):,} characters", basis, p50_us, p99_us, cpu_us])
    return [
        Grid(f"Router: {DECISIONS:,} decisions each", ("decided", "basis", "p50 us", "p99 us", "CPU us each"), rows)
    ]
