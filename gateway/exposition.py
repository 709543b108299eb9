"""What a scraper reads: Prometheus' text of all metrics, written a piece at a time so that no stream waits for it."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.utils import floatToGoString

from gateway.dispatch import BreakerState
from gateway.meter import Labelled
from gateway.runtime import Runtime
from models.engine import EngineState, Tells

LINES_PER_STEP = 200  # between two looks at the event loop, half a millisecond; a histogram's child more at most
ENGINES_PER_STEP = 25
ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


async def expose(runtime: Runtime) -> bytes:
    """The metrics of all processes of this gateway, as they are now."""
    metrics = runtime.meter.metrics
    await read_gauges(runtime)
    if metrics.counts is not None:
        await _in_turns(metrics.counts.gather(metrics.families))
    return "".join(await _in_turns(pieces(metrics.families.values()))).encode()


async def read_gauges(runtime: Runtime) -> None:
    """Set the gauges of what others count: engines, limits and the ledger."""
    await _in_turns(_read_engines(runtime))
    await _ask_engines(runtime)
    own, ledger = runtime.meter.metrics, runtime.ledger
    own.limits_degraded.set(runtime.limits.degraded)
    own.suspended.set(runtime.knowledge.suspended)
    own.ledger_waiting.set(ledger.waiting)
    own.journal_errors.set(ledger.journal_errors)
    own.recovered.set(ledger.recovered_charges)
    own.lost.set(ledger.lost_requests)
    own.unkept_refusals.set(ledger.unkept_refusals)


def pieces(families: Iterable[Labelled[Any]]) -> Iterator[str]:
    """The text in pieces of about LINES_PER_STEP lines; a metric's child is never parted."""
    lines: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        text = family.text.replace("\\", r"\\").replace("\n", r"\n")
        lines += (f"# HELP {name} {text}\n", f"# TYPE {name} {family.kind}\n")
        for labels, child in family.children:
            lines += _lines(child, dict(zip(family.label_names, labels, strict=True)))
            if len(lines) >= LINES_PER_STEP:
                yield "".join(lines)
                lines = []
    yield "".join(lines)


def _lines(child: Any, labels: dict[str, str]) -> Iterator[str]:
    [metric] = child.collect()
    for sample in metric.samples:
        named = sorted({**labels, **sample.labels}.items())
        shown = ",".join([f'{label}="{text.translate(ESCAPED)}"' for label, text in named])
        value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
        yield f"{sample.name}{{{shown}}} {value}\n" if shown else f"{sample.name} {value}\n"


def _read_engines(runtime: Runtime) -> Iterator[None]:
    own = runtime.meter.metrics
    for count, (name, engine) in enumerate(tuple(runtime.engines.items())):
        health = engine.health()
        own.engine_up.of(name).set(health.state is EngineState.READY)
        own.engine_restarts.of(name).set(health.restarts)
        own.engine_queue.of(name).set(engine.waiting)
        own.engine_in_flight.of(name).set(engine.in_flight)
        own.engine_retries.of(name).set(engine.retries_total)
        own.engine_hedges.of(name).set(engine.hedges_total)
        opened = sum(replica.breaker.state is not BreakerState.CLOSED for replica in engine.replicas)
        own.engine_breakers_open.of(name).set(opened)
        for reason, shed in engine.shed.items():
            own.engine_shed.of(name, reason).set(shed)
        if count % ENGINES_PER_STEP == 0:
            yield


async def _ask_engines(runtime: Runtime) -> None:
    """What servers say of themselves; a model's together. Who does not answer leaves what was said last."""
    own = runtime.meter.metrics
    asked = [
        (name, replica.engine)
        for name, engine in runtime.engines.items()
        for replica in engine.replicas
        if isinstance(replica.engine, Tells)
    ]
    said = await asyncio.gather(*(engine.readings() for _, engine in asked))
    for name in {name for name, _ in asked}:
        told = [one for (of, _), one in zip(asked, said, strict=True) if of == name and one is not None]
        if not told:
            continue
        own.engine_running.of(name).set(sum(one.running for one in told))
        own.engine_waiting.of(name).set(sum(one.waiting for one in told))
        own.engine_kv_used.of(name).set(max(one.kv_used_ratio for one in told))
        if hits := [one.prefix_hit_ratio for one in told if one.prefix_hit_ratio is not None]:
            own.engine_prefix_hits.of(name).set(sum(hits) / len(hits))


async def _in_turns(steps: Iterator[Any]) -> list[Any]:
    """What *steps* give; between two of them everybody else has a turn."""
    given = []
    for step in steps:
        given.append(step)
        await asyncio.sleep(0)
    return given
