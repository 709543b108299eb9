"""Answering one request, from decision to first block: read this file first. Knows no HTTP."""

from dataclasses import dataclass

from gateway.meter import Tab
from gateway.runtime import Runtime, decide
from gateway.schema import Asked
from models.catalog import Model
from models.engine import Call, ContextTooLong, EngineBusy, EngineError, EngineUnavailable, Reply
from router.decision import Decision


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has begun: committed to `model`, whose reply's first block is here."""

    decision: Decision
    model: Model
    passed_over: tuple[str, ...]
    reply: Reply


async def begin(runtime: Runtime, asked: Asked, tab: Tab) -> Answer:
    """Decide who answers and wait for the first block; until then the next model may be tried.

    Raises EngineError, InvalidRequest.
    """
    decision, seconds = decide(runtime.strategy, runtime.knowledge, runtime.catalog, asked)
    tab.decided(decision, seconds)
    runtime.meter.metrics.decided(decision.model, decision.basis)
    call = Call(
        asked.body,
        asked.stream,
        asked.operation,
        asked.include_usage,
        affinity=decision.template,  # a template's fixed part is the prefix that its requests share
        request_id=tab.request_id,
    )
    passed_over: list[str] = []
    problem: EngineError | None = None
    for name in decision.order:
        model = runtime.catalog.models[name]
        tab.calling(model)
        try:
            reply = await runtime.engines[name].begin(call)
        except (EngineUnavailable, EngineBusy, ContextTooLong) as error:
            problem = error
            passed_over.append(name)
        else:
            tab.answering(reply)
            return Answer(decision, model, tuple(passed_over), reply)
    assert problem is not None
    raise problem
