"""Answering one request, from decision to first block: read this file first. Knows no HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gateway.cache.cache import Search
from gateway.cascade import NotReleased, released
from gateway.errors import of_limit
from gateway.held import Held
from gateway.limits.claim import NotReserved
from gateway.limits.policy import OUTPUT_FIELDS, admit, largest, limits_on, worst_case
from gateway.meter import Tab
from gateway.schema import Asked
from gateway.second import Second
from gateway.wishes import CHOOSING
from models.catalog import Catalog, Model
from models.engine import Call, ContextTooLong, EngineBusy, EngineError, EngineUnavailable, Operation, Reply
from router.decision import Decision

SESSION_CHARACTERS = 256
FORWARDED = frozenset({b"openai-beta", b"traceparent", b"tracestate", b"x-client-request-id"})
NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has begun: committed to `model`, whose reply's first block is here."""

    decision: Decision
    model: Model
    passed_over: tuple[str, ...]
    reply: Reply
    cache: str | None = None  # exact or semantic, where it is one that was given before


async def begin(held: Held, asked: Asked) -> Answer:
    """Decide who answers, unless an answer is kept reserve what that could cost, and wait for the first block; until
    then the next model may be tried. Raises EngineError, GatewayError.
    """
    runtime, tab, caller = held.runtime, held.charged, held.known_caller
    passed = asked if runtime.rails is None else await runtime.rails.passed(asked)
    decision, seconds = runtime.decide(asked, caller, held.headers)
    session = _session(held, asked)
    if session is not None and CHOOSING.isdisjoint(held.headers):  # who wishes for an answerer comes first
        decision = runtime.sessions.stick(session, decision, _able(runtime.catalog, asked))
    tab.decided(decision, seconds, kept=runtime.settings.keep_decisions)
    runtime.meter.metrics.decided(decision.model, decision.basis)
    search = runtime.cache.search(passed, decision.template, caller, held.headers) if runtime.cache else None
    answer = await _kept(held, search, passed, decision) if search is not None else None
    return await _seen(held, passed, answer or await _called(held, passed, decision, session), search)


def _able(catalog: Catalog, asked: Asked) -> Sequence[Model]:
    """The models that could answer, the cheapest first."""
    able = catalog.models_for(asked.needs)
    return able if asked.prompt is None else [model for model in able if model.name in asked.prompt.variants]


async def _kept(held: Held, search: Search, asked: Asked, decision: Decision) -> Answer | None:
    model = held.runtime.catalog.models[decision.model]
    replayed = await search.find(model)
    if replayed is None:
        return None
    if asked.prompt is not None:
        held.charged.told(asked.prompt.variants[model.name])
    held.charged.from_cache(model, replayed.kind, replayed.usage)
    return Answer(decision, model, (), replayed, replayed.kind)


async def _seen(held: Held, asked: Asked, answer: Answer, search: Search | None) -> Answer:
    """*answer* as the client may see it, and kept for the next time."""
    reply, rails = answer.reply, held.runtime.rails
    if answer.cache is None:
        reply = held.runtime.watch.watched(held, asked, answer.decision, answer.model, reply)
    is_limited = held.admission is not None and held.admission.max_tokens is not None
    try:
        if search is not None and answer.cache is None:
            reply = await search.keep(reply, answer.model, is_limited=is_limited)
        if rails is not None:
            reply = rails.guarded(reply, asked)
    except BaseException:
        await answer.reply.close()
        raise
    return answer if reply is answer.reply else replace(answer, reply=reply)


async def _called(held: Held, asked: Asked, decision: Decision, session: str | None) -> Answer:
    runtime, tab = held.runtime, held.charged
    await _admit(held, asked, decision)
    call = Call(
        _limited(held, asked),
        asked.stream,
        asked.operation,
        asked.include_usage,
        priority=held.priority,
        affinity=session or decision.template,  # a template's fixed part is the prefix that its requests share
        headers=_forwarded(held.headers),
        request_id=tab.request_id,
    )
    passed_over: list[str] = []
    problem: EngineError | None = None
    for place, name in enumerate(decision.order):
        model = runtime.catalog.models[name]
        if asked.prompt is not None:
            tab.told(asked.prompt.variants[name])
        tab.calling(model)
        try:
            told = _told(_as_told(held, call, asked, name), tab)
            first = place == 0
            reply = await (_asked(held, asked, told, decision) if first else runtime.engines[name].begin(told))
        except (EngineUnavailable, EngineBusy, ContextTooLong) as error:
            problem = error
            tab.failed(error)
            passed_over.append(name)
        except NotReleased as thrown_away:
            tab.not_released(thrown_away.usage, thrown_away.engine_seconds)
            passed_over.append(name)
        else:
            tab.answering(reply)
            _learn_from(reply, held, asked.told(name), decision, model)
            return Answer(decision, model, tuple(passed_over), reply)
    assert problem is not None
    raise problem


def _as_told(held: Held, call: Call, asked: Asked, model: str) -> Call:
    """*call* in the words for *model*, where a prompt has words of its own for it."""
    return call if asked.prompt is None else replace(call, body=_limited(held, asked.told(model)))


def _told(call: Call, tab: Tab) -> Call:
    """*call* as a part of the request's trace, where it has one."""
    return call if tab.trace is None else replace(call, headers={**call.headers, **tab.trace.headers()})


async def _asked(held: Held, asked: Asked, call: Call, decision: Decision) -> Reply:
    """The first one's answer. Raises EngineError, and NotReleased for an answer that fails its check."""
    runtime = held.runtime
    engine = runtime.engines[decision.model]
    if decision.check is None:
        return await engine.begin(call)
    if decision.second is None:
        return await released(engine, call, decision.check)
    second = Second(runtime.engines[decision.second], _as_told(held, call, asked, decision.second))
    try:
        return await released(engine, call, decision.check, second)
    finally:
        try:
            await second.close()
        finally:  # what is known of its work is paid for, whoever else gives up meanwhile
            held.charged.discarded(second.usage, second.engine_seconds, runtime.catalog.models[decision.second])


def _learn_from(reply: Reply, held: Held, asked: Asked, decision: Decision, model: Model) -> None:
    """Once *reply* is closed, whoever decides next knows what it took."""
    learn = held.runtime.forecaster.asking(asked, decision.template, model)
    reply.when_closed(lambda: learn(held.charged.charge))


def _session(held: Held, asked: Asked) -> str | None:
    """The conversation that a request belongs to, where the client names it."""
    named = held.headers.get(b"x-pointsman-session", b"").decode("latin-1") or asked.body.get("prompt_cache_key")
    return f"{held.caller_id}:{named[:SESSION_CHARACTERS]}" if isinstance(named, str) and named else None


def _forwarded(headers: Mapping[bytes, bytes]) -> Mapping[str, str]:
    """Those of the client's headers that are for the engine; the rest, its key first of all, stays here."""
    if FORWARDED.isdisjoint(headers):
        return NO_HEADERS
    return {name.decode(): headers[name].decode("latin-1") for name in FORWARDED.intersection(headers)}


async def _admit(held: Held, asked: Asked, decision: Decision) -> None:
    """Reserve the worst case of somebody's limits. Raises GatewayError when a limit is reached."""
    runtime = held.runtime
    holders = limits_on(held.known_caller, decision.template, runtime.keys.budgets)
    if not holders:
        return
    models = [runtime.catalog.models[name] for name in decision.order]
    in_vain = models[:1] if decision.check else []
    if decision.second is not None:
        in_vain = [*in_vain, runtime.catalog.models[decision.second]]
    worst = largest([worst_case(told.body, told.body_bytes, models, in_vain) for told in asked.tellings])
    clamp = runtime.settings.clamp_to_budget
    try:
        held.admission = await admit(runtime.limits, holders, worst, clamp=clamp, now=datetime.now(UTC))
    except NotReserved as problem:
        raise of_limit(problem) from problem


def _limited(held: Held, asked: Asked) -> Mapping[str, Any]:
    """The body for the engine, which is told to answer shorter where the reservation needs it."""
    if held.admission is None or held.admission.max_tokens is None or asked.operation is Operation.EMBEDDING:
        return asked.body
    field = next((name for name in OUTPUT_FIELDS if asked.body.get(name) is not None), "max_tokens")
    most = held.admission.max_tokens
    return {**asked.body, field: min(most, asked.body.get(field) or most)}
