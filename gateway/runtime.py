"""Everything a running gateway holds, in one frozen object: built by `gateway.builder`, swapped whole."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from gateway.batches import BatchStore
from gateway.cache.cache import Cache
from gateway.dispatch import Dispatcher
from gateway.errors import InvalidRequest, PromptNotServable
from gateway.feedback import FeedbackStore
from gateway.files import FileStore
from gateway.forecast import Forecaster
from gateway.guardrails.rails import Rails
from gateway.idempotency import IdempotencyStore
from gateway.keys import LOOPBACK_CALLER, Caller, Keys, allowed_of, check_allowed
from gateway.learning.store import RecordStore
from gateway.learning.watch import Watch
from gateway.ledger.store import Ledger
from gateway.library.standing import Standing, safe_tier_of
from gateway.library.store import LibraryStore
from gateway.limits.claim import LimitStore
from gateway.meter import Meter
from gateway.responses import ResponseStore
from gateway.schema import Asked
from gateway.sessions import Sessions
from gateway.settings import Settings
from gateway.wishes import BEST, CHEAPEST, NO_WISHES, Wishes, refusal, wishes_of
from models.catalog import AUTO, Ability, Catalog
from models.engine import EngineState, Operation
from prompts.library import Library, Version
from prompts.message import template_key
from prompts.template import Hold
from router.decision import Basis, Decision, Knowledge, Mode, Question, Strategy
from router.expected import Expect
from router.groups import Groups
from router.looks import looks

if TYPE_CHECKING:
    from gateway.prompting.prompted import Prompted
    from gateway.tracing.spans import Tracing

log = structlog.get_logger(__name__)

NO_PROMPTS, NO_STANDING = Library(), Standing()


@dataclass(frozen=True, slots=True)
class Runtime:
    settings: Settings
    catalog: Catalog
    engines: Mapping[str, Dispatcher]
    strategy: Strategy
    knowledge: Knowledge
    keys: Keys
    ledger: Ledger
    responses: ResponseStore
    files: FileStore
    batches: BatchStore
    wake_batches: asyncio.Event  # set when a batch was created or cancelled
    feedback: FeedbackStore
    records: RecordStore
    watch: Watch
    idempotency: IdempotencyStore
    limits: LimitStore
    cache: Cache | None  # None where it is off, as with the next two: no code of theirs runs then
    rails: Rails | None
    tracing: "Tracing | None"
    sessions: Sessions
    groups: Groups
    forecaster: Forecaster
    meter: Meter
    registry: CollectorRegistry
    prompts: LibraryStore  # the records that the next two are made from
    library: Library = NO_PROMPTS
    standing: Standing = NO_STANDING  # of the library's versions

    def prompt_tiers(self, version: Version) -> frozenset[str]:
        """Where *version* may be sent now, by the library's names for tiers; see `gateway.library.standing`."""
        known = self.standing.of(version)
        if known is not None:
            return known
        return frozenset((safe_tier_of(version.template, self.prompts.lineup, self.library.policy),))

    def ready(self) -> bool:
        """The safe tier can be called, so every request can be answered."""
        return self.engines[self.catalog.safe.name].health().state is EngineState.READY

    def decide(self, asked: Asked, caller: Caller, headers: Mapping[bytes, bytes]) -> tuple[Decision, float]:
        """See `decide`. *headers*: the request's, which may tell wishes."""
        wishes = wishes_of(headers, self.knowledge.bar)
        return decide(
            self.strategy,
            self.knowledge,
            self.catalog,
            asked,
            caller,
            self.groups,
            wishes,
            self.forecast,
        )

    def forecast(self, asked: Asked, template: str | None) -> Expect:
        """What *asked* is expected to take of each model."""
        return self.forecaster.of(asked, template, self.engines, self.settings.wait_second_usd)


def decide(
    strategy: Strategy,
    knowledge: Knowledge,
    catalog: Catalog,
    asked: Asked,
    caller: Caller = LOOPBACK_CALLER,
    groups: Groups | None = None,
    wishes: Wishes = NO_WISHES,
    forecast: Callable[[Asked, str | None], Expect] = lambda asked, template: Forecaster().of(asked, template),
) -> tuple[Decision, float]:
    """Which model answers, and how many seconds that took. A fault of the router chooses the safe tier. *forecast*:
    what a request of a template is expected to take of each model.

    Permissions, budgets and caches go by the template itself; only evidence goes by its group in *groups*.

    Raises InvalidRequest when no model that may answer is able to, or is within the *wishes*, NotAllowed when *caller*
    may use none.
    """
    start = perf_counter()
    able = allowed_of(caller, _able(catalog, asked))
    over: Mapping[str, str] = {}
    template = None
    try:
        if asked.prompt is not None:
            template = asked.prompt.key
            wishes = asked.prompt.wishes(wishes, knowledge.bar)
        else:
            template = template_key(asked.body) if asked.operation is Operation.CHAT else None
        expect = forecast(asked, template)
        over = wishes.over_limits([catalog.models[name] for name in able], expect)
        if asked.target != AUTO:
            decision = Decision((asked.target,), Basis.PINNED, "the request names the model", template)
        elif asked.operation is not Operation.CHAT:
            decision = Decision((able[-1],), Basis.SAFE, f"nothing is known about {asked.operation}", None)
        elif wishes.end == BEST:
            decision = Decision((able[-1],), Basis.SAFE, "the request asks for the best", template)
        elif wishes.end == CHEAPEST:
            order = tuple(name for name in able if name not in over) or able
            decision = Decision(order, Basis.PINNED, "the request asks for the cheapest", template)
        elif (mode := knowledge.mode_of(template)) is Mode.OFF:
            decision = Decision((able[-1],), Basis.SAFE, "routing is off for this template", template)
        elif asked.prompt is not None and (tried := asked.prompt.on_trial(able)) is not None:
            decision = Decision(tried[0], Basis.CANARY, tried[1], template)
        else:
            group = _group(groups, template, asked, knowledge)
            back = wishes.held_back(asked)
            question = Question(
                group or template,
                lambda: looks(asked.body),
                streamed=asked.stream and back is Hold.FIRST,
                checkable=back is not Hold.NONE and (asked.body.get("n") or 1) == 1,
                expect=expect,
            )
            known = knowledge if wishes.bar is None else knowledge.held_to(wishes.bar)
            decision = strategy.decide(question, known.among({*able} - {*over} | {able[-1]} if over else able))
            if group is not None:
                decision = replace(decision, template=template, group=group)
            if mode is Mode.OBSERVE:
                decision = observed(decision, able[-1])
    except Exception:  # whatever it is, the client gets the safe answer
        log.exception("the router failed; the safe tier serves")
        decision = Decision((able[-1],), Basis.FAULT, "the router failed", template)
    check_allowed(caller, asked.target, decision.template)
    if over:
        if decision.model in over or (decision.check is not None and decision.order[1] in over):
            raise refusal(over)
        decision = replace(decision, order=tuple(name for name in decision.order if name not in over))
    return decision, perf_counter() - start


def _group(groups: Groups | None, template: str | None, asked: Asked, knowledge: Knowledge) -> str | None:
    """Whose evidence stands in for that of a template without any. A version of a prompt earns its own."""
    if not groups or template is None or asked.prompt is not None or knowledge.knows(template):
        return None
    return groups.of(template, asked.body)


def observed(decision: Decision, safe: str) -> Decision:
    """What is served where a decision is only looked at."""
    reason = f"observed only, {decision.model} would answer: {decision.reason}"
    served = replace(decision, order=(safe,), basis=Basis.SAFE, reason=reason, check=None, second=None)
    return replace(served, chosen=decision.order)


# The field of a request by which it needs an ability, for the error that says so.
FIELDS = {
    Ability.TOOLS: "tools",
    Ability.STRUCTURED: "response_format",
    Ability.LOGPROBS: "logprobs",
    Ability.CHOICES: "n",
    Ability.REASONING: "reasoning_effort",
    Ability.IMAGES: "messages",
    Ability.AUDIO: "messages",
    Ability.FILES: "messages",
    Ability.MEDIA_URLS: "messages",
}


def _able_to_say(prompt: "Prompted", asked: Asked, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of *names* that the prompt may be sent to. Raises PromptNotServable."""
    able = tuple(name for name in names if name in prompt.variants)
    if not able:
        raise PromptNotServable(
            f"none of the models that {prompt.version.name} may be sent to has all that it needs: "
            f"{', '.join(sorted(asked.needs))}; it may be sent to {', '.join(prompt.variants)}"
        )
    return able


def _able(catalog: Catalog, asked: Asked) -> tuple[str, ...]:
    """The models that can do what the request needs, cheapest first; for a named model only that."""
    names = tuple(model.name for model in catalog.models_for(asked.needs))
    if asked.prompt is not None:
        return _able_to_say(asked.prompt, asked, names)
    if asked.target == AUTO and names:
        return names
    if asked.target in names:
        return (asked.target,)
    if asked.target != AUTO:
        missing = sorted(asked.needs - catalog.models[asked.target].abilities)
        who = f"the model {asked.target!r} does not have"
    else:
        had = {ability for model in catalog for ability in model.abilities}
        missing = sorted(asked.needs - had) or sorted(asked.needs)  # each by some model, all by none
        who = "no model served here has"
    hint = f"; these have: {', '.join(names)}" if names else ""
    raise InvalidRequest(
        f"{who} the {'ability' if len(missing) == 1 else 'abilities'} {', '.join(missing)}{hint}",
        param=FIELDS.get(missing[0], "model"),
        code="unsupported_ability",
    )
