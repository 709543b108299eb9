"""A process with the router in it and no gateway, which says what it takes after each step; see `tests.bench.memory`.

Its arguments are the modules of the router that serve, so that none is left out.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import islice

from models.catalog import Model, load_catalog
from router.bar import Bar
from router.bounds import lower_bound
from router.decision import Knowledge, Question
from router.difficulty import BUILTIN_DIFFICULTY
from router.groups import Groups
from router.knowledge import load_knowledge
from router.looks import looks
from router.mix import REFERENCE, WINDOW
from router.record import Observed, Record, Terms, document_of, new_record, observe, record_of, saw_inputs, tell
from router.sources import Source
from router.strategies import STRATEGIES

HEAVY = ("torch", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "transformers", "vllm", "litellm")
MODELS, TEMPLATES, DECISIONS = 6, 200, 5_000
RECORDS_LIMIT = 10_000  # `learning.max_records` where nothing is set


def main() -> None:
    for module in sys.argv[1:]:
        import_module(module)
    steps = [_step("importing what serves")]
    knowledge = _knowledge()
    steps.append(_step(f"reading the tables, {len(knowledge.models)} models"))

    terms, cheaper = Terms(knowledge.bar), [model.build for model in knowledge.models[:-1]]
    keys = [(f"{n:016x}", build) for n in range(TEMPLATES) for build in cheaper]
    made = _records(terms)
    records = dict(zip(keys, made, strict=False))
    knowledge = _learned(knowledge, records, terms)
    steps.append(_step(f"{TEMPLATES} templates, {len(records):,} records at their limits"))

    groups = Groups()
    _decide(knowledge, groups)
    steps.append(_step(f"{DECISIONS:,} decisions on ever new system messages"))

    counts = ((passed, total) for total in range(1, RECORDS_LIMIT) for passed in range(1, total))
    for passed, total in islice(counts, lower_bound.cache_info().maxsize):
        lower_bound(passed, total, knowledge.bar.confidence)
    steps.append(_step("as many bounds as are remembered"))

    records |= {(f"other {n}", cheaper[0]): record for n, record in zip(range(RECORDS_LIMIT), made, strict=False)}
    knowledge = _learned(knowledge, dict(islice(records.items(), RECORDS_LIMIT)), terms)
    steps.append(_step(f"{RECORDS_LIMIT:,} records, the most that are kept"))
    heavy = [name for name in HEAVY if name in sys.modules]
    sys.stdout.write(json.dumps({"steps": steps, "heavy": heavy}))


def _step(name: str) -> tuple[str, int, int]:
    """Resident bytes now, and the most there were so far (proc(5))."""
    with open("/proc/self/status", encoding="ascii") as status:
        kib = {field: rest.split() for field, _, rest in (line.partition(":") for line in status)}
    return name, 1024 * int(kib["VmRSS"][0]), 1024 * int(kib["VmHWM"][0])


def _knowledge() -> Knowledge:
    """Of the catalogue's models that the tables know, and of as many more as make MODELS."""
    named = BUILTIN_DIFFICULTY.read_text(encoding="utf-8")
    known = sorted((m for m in load_catalog().chatting if f'"{m.build}"' in named), key=lambda model: model.tier)
    others = [Model(name=f"m{n}", engine="scripted", tier=n, context_tokens=1) for n in range(MODELS - len(known))]
    return load_knowledge([*others, *known], Bar(0.95, margin=0.1))


def _records(terms: Terms) -> Iterator[Record]:
    """Without end, none sharing anything with another: two generations, all sources, full histograms."""
    record, few = new_record(1), replace(terms, generation_outcomes=100)
    for n in range(150):
        for source in Source:
            passed = (n + len(source)) % 25 > 0
            record = observe(record, Observed(source, passed, 1e9 + n, 1e9 + n, True, suite="s" * 64), few)
    record = saw_inputs(record, (1 << n % 17 for n in range(REFERENCE + WINDOW - 1)), 2e9)
    assert len(record.generations) == 2
    written = json.dumps(document_of(record))
    while True:
        yield record_of(json.loads(written))


def _learned(knowledge: Knowledge, records: dict[tuple[str, str], Record], terms: Terms) -> Knowledge:
    return knowledge.learning({key: tell(record, terms) for key, record in records.items()})


def _decide(knowledge: Knowledge, groups: Groups) -> None:
    """Half of the templates have records; each system message is as long as those that are compared."""
    strategy = STRATEGIES["evidence"]()
    for n in range(DECISIONS):
        words = " ".join(f"{(n * 7919 + k * k) % 256:02x}" for k in range(1360))
        body = {"messages": [{"role": "system", "content": words}], "tools": [n % 600]}
        groups.of(f"{n:016x}", body)
        strategy.decide(Question(f"{n % (2 * TEMPLATES):016x}", partial(looks, body)), knowledge)


if __name__ == "__main__":
    main()
