"""The decision's part: the router alone, template key and features included. No HTTP, no engine."""

import time
from statistics import median

import orjson

from gateway.app import load_knowledge_for, served_catalog
from gateway.runtime import decide
from gateway.schema import parse_chat
from gateway.settings import load_settings
from router.strategies import STRATEGIES
from tests.bench.grid import Grid

DECISIONS = 2000


def measure_decisions() -> list[Grid]:
    """A request of about 600 characters that names a template."""
    settings = load_settings()
    catalog = served_catalog(settings)
    knowledge = load_knowledge_for(catalog, settings)
    strategy = STRATEGIES[settings.strategy]()
    system = {"role": "system", "content": "Task: navigate.\nAnswer the question."}
    messages = [system, {"role": "user", "content": "Take 10 steps. Turn left. " * 23}]
    request = parse_chat(orjson.dumps({"model": "auto", "messages": messages}), catalog)
    start = time.process_time()
    seconds = sorted(decide(strategy, knowledge, request)[1] for _ in range(DECISIONS))
    cpu_us = 1e6 * (time.process_time() - start) / DECISIONS
    return [
        Grid(
            "Router: one decision, template key and features included, 600 characters",
            ("decisions", "p50 us", "p99 us", "CPU us each"),
            [[f"{DECISIONS:,}", 1e6 * median(seconds), 1e6 * seconds[int(0.99 * DECISIONS)], cpu_us]],
        )
    ]
