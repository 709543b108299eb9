"""The decision's part: the router alone, template key and features included. No HTTP, no engine.

The served models with the tables that ship; and a crowd: six models, 200 templates, each with open outcomes of every
model, so that every one is looked at.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import cycle, islice
from statistics import median

import orjson

from gateway.builder import load_knowledge_for
from gateway.dispatch import Dispatcher
from gateway.forecast import Forecaster
from gateway.runtime import decide
from gateway.schema import Asked, parse_chat
from gateway.served import served_catalog
from gateway.settings import load_settings
from models.catalog import Catalog, Model, Price, catalog_of
from models.scripted import ScriptedEngine
from prompts.message import Message, template_key
from router.bar import Tally, parse_bar
from router.decision import Decision, Knowledge, Strategy
from router.difficulty import Difficulty, load_difficulty
from router.evidence import Evidence
from router.strategies import STRATEGIES
from router.trust import Threshold
from tests.bench.gateway import BAR, OPEN_TASK, TASK
from tests.bench.grid import Cell, Grid

DECISIONS = 2000
SENTENCE = "Take 10 steps. Turn left. "
LENGTHS = (23, 1230)  # sentences: about 600 characters, and 32,000, which are some 8,000 tokens


CROWD_MODELS, CROWD_TEMPLATES = 6, 200
OPEN = Tally(passed=8, total=10, lost=1, won=1, paired=10)


def measure_decisions() -> list[Grid]:
    """One request of a template whose outcomes decide, one of which they leave open, and many of many templates."""
    settings = load_settings(bar=BAR)
    catalog = served_catalog(settings)
    knowledge = load_knowledge_for(catalog, settings)
    strategy = STRATEGIES[settings.strategy]()
    rows: list[list[Cell]] = []
    for sentences in LENGTHS:
        text = SENTENCE * sentences
        for name, task in (("by outcomes", TASK), ("by looks", OPEN_TASK)):
            request = _request([{"role": "system", "content": task}, {"role": "user", "content": text}], catalog)
            rows.append(_measured(f"{name}, {len(text):,} characters", strategy, knowledge, catalog, [request]))
        crowd, many, requests = _crowd(text)
        name = f"{CROWD_MODELS} models, {CROWD_TEMPLATES} templates, {len(text):,} characters"
        rows.append(_measured(name, strategy, many, crowd, requests))
    return [
        Grid(f"Router: {DECISIONS:,} decisions each", ("decided", "basis", "p50 us", "p99 us", "CPU us each"), rows)
    ]


def _measured(
    name: str, strategy: Strategy, knowledge: Knowledge, catalog: Catalog, requests: Sequence[Asked]
) -> list[Cell]:
    forecaster = Forecaster()
    engines = {row.name: Dispatcher.of(row, [ScriptedEngine(row.name, lambda call: ())]) for row in catalog}
    for request in requests:  # so that there is something to look up for each
        for row in catalog.chatting:
            forecaster.asking(request, template_key(request.body), row)

    def decided(request: Asked) -> tuple[Decision, float]:
        forecast = partial(forecaster.of, engines=engines)
        return decide(strategy, knowledge, catalog, request, forecast=forecast)

    taking_turns = islice(cycle(requests), DECISIONS)
    start = time.process_time()
    seconds = sorted(decided(request)[1] for request in taking_turns)
    cpu_us = 1e6 * (time.process_time() - start) / DECISIONS
    basis = decided(requests[0])[0].basis.value
    return [name, basis, 1e6 * median(seconds), 1e6 * seconds[int(0.99 * DECISIONS)], cpu_us]


def _request(messages: Sequence[Message], catalog: Catalog) -> Asked:
    return parse_chat(orjson.dumps({"model": "auto", "messages": messages}), catalog)


def _crowd(text: str) -> tuple[Catalog, Knowledge, Sequence[Asked]]:
    """A catalogue of as many models, what is known of them, and a request of each template."""
    price = Price(input_usd=Decimal(1), output_usd=Decimal(1))
    rows = [
        Model(name=f"m{tier}", engine="scripted", tier=tier, context_tokens=32_768, price=price)
        for tier in range(CROWD_MODELS)
    ]
    catalog = catalog_of(rows, {})
    requests = [
        _request([{"role": "system", "content": f"Task {n}."}, {"role": "user", "content": text}], catalog)
        for n in range(CROWD_TEMPLATES)
    ]
    templates = [template_key(request.body) or "" for request in requests]
    outcomes = {(template, row.build): OPEN for template in templates for row in rows[:-1]}
    [any_solve_model, *_] = load_difficulty().models.values()
    fitted_on = dict.fromkeys(templates, 0.0)
    knowledge = Knowledge(
        models=catalog.chatting,
        evidence=Evidence(outcomes),
        difficulty=Difficulty({row.build: replace(any_solve_model, offsets=fitted_on) for row in rows}),
        thresholds={row.build: Threshold(1.0, "never") for row in rows[:-1]},
        bar=parse_bar(BAR, 0.95),
    )
    return catalog, knowledge, requests
