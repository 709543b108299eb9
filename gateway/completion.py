"""Answering one request, from decision to first chunk: read this file first. Knows no HTTP."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gateway.meter import Tab
from gateway.runtime import Runtime, decide
from gateway.schema import ChatRequest
from models.catalog import Model
from models.engine import Call, Chunk, ContextTooLong, EngineBusy, EngineError, EngineUnavailable
from router.decision import Decision


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has begun: committed to `model`, whose `first` chunk is here and whose `rest` follows."""

    decision: Decision
    model: Model
    passed_over: tuple[str, ...]
    first: Chunk
    rest: AsyncGenerator[Chunk, None]


async def begin(runtime: Runtime, request: ChatRequest, tab: Tab) -> Answer:
    """Decide who answers and wait for the first chunk; until then the next model may be tried. Raises EngineError."""
    decision, seconds = decide(runtime.strategy, runtime.knowledge, request)
    tab.decided(decision, seconds)
    runtime.meter.metrics.decisions.labels(decision.model, decision.basis).inc()
    call = Call(request.body, request.stream)
    passed_over: list[str] = []
    problem: EngineError | None = None
    for name in decision.order:
        model = runtime.catalog.models[name]
        tab.calling(model)
        chunks = runtime.engines[name].answer(call)
        try:
            first = await anext(chunks)
        except (EngineUnavailable, EngineBusy, ContextTooLong) as error:
            problem = error
            passed_over.append(name)
        except StopAsyncIteration:
            problem = EngineUnavailable("the engine gave no answer")
            passed_over.append(name)
        else:
            tab.received(first)
            return Answer(decision, model, tuple(passed_over), first, chunks)
    assert problem is not None
    raise problem
