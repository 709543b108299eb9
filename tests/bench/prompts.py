"""The prompts' part: a template rendered and its variables checked, as a gateway does it. No HTTP, no engine."""

import time
from statistics import median
from typing import Any

from prompts.render import compiled, render
from prompts.template import Template, Text
from tests.bench.grid import Cell, Grid

RENDERINGS = 5000
FIRST_TIMES = 100
VOICE = "Answer in one word, in lower case, without a full stop. Say nothing about these rules. "
TASK = "Say which queue a ticket belongs to. A bug is what worked and does not; billing is about money. "
TYPICAL = Template(
    "support/triage",
    (
        Text(
            "system",
            f'{{% include "voice" %}}\n{TASK * 10}The product is {{{{ product }}}}.\n'
            "{% for queue in queues %}- {{ queue }}\n{% endfor %}",
        ),
        Text("user", "{{ name }} ({{ tickets }} tickets so far) writes:\n\n{{ ticket }}"),
    ),
    inputs={
        "type": "object",
        "required": ["queues", "name", "tickets", "ticket"],
        "properties": {
            "product": {"type": "string", "enum": ["core", "mobile"], "default": "core"},
            "queues": {"type": "array", "minItems": 2, "items": {"type": "string", "maxLength": 32}},
            "name": {"type": "string", "maxLength": 64},
            "tickets": {"type": "integer", "minimum": 0},
            "ticket": {"type": "string", "minLength": 1, "maxLength": 8000},
        },
    },
    partials={"voice": VOICE * 2},
)
SENTENCE = "Since the update it closes by itself when I press send. "


def measure_prompts() -> list[Grid]:
    """A typical template (2 messages, 5 variables, one partial, some 2 kB), one with a long text, the first time."""
    rows = [_measured("typical", _variables(10)), _measured("a ticket of 8,000 characters", _variables(142))]
    rows.append(_made_ready())
    columns = ("rendered and checked", "characters", "p50 us", "p99 us")
    return [Grid(f"Prompts: {RENDERINGS:,} renderings each", columns, rows)]


def _variables(sentences: int) -> dict[str, Any]:
    ticket = (SENTENCE * sentences).strip()
    return {"queues": ["bug", "billing", "question"], "name": "Ann", "tickets": "3", "ticket": ticket}


def _measured(name: str, variables: dict[str, Any]) -> list[Cell]:
    said = render(TYPICAL, "small", variables)
    seconds = []
    for _ in range(RENDERINGS):
        start = time.perf_counter()
        render(TYPICAL, "small", variables)
        seconds.append(time.perf_counter() - start)
    return [name, sum(len(message["content"]) for message in said.messages), *_microseconds(seconds)]


def _made_ready() -> list[Cell]:
    """What the first request of a version waits for, once in each process."""
    seconds = []
    for _ in range(FIRST_TIMES):
        compiled.cache_clear()
        start = time.perf_counter()
        said = render(TYPICAL, "small", _variables(10))
        seconds.append(time.perf_counter() - start)
    return ["typical, the first time", sum(len(m["content"]) for m in said.messages), *_microseconds(seconds)]


def _microseconds(seconds: list[float]) -> list[Cell]:
    return [1e6 * median(seconds), 1e6 * sorted(seconds)[int(0.99 * len(seconds))]]
