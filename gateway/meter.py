"""Counts: one tab per request, closed exactly once into one charge, and the Prometheus metrics. Knows no HTTP."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics

from gateway.dispatch import Discarded
from gateway.keys import Caller
from gateway.ledger.charge import Charge, Outcome
from gateway.ledger.store import Ledger
from gateway.workers.counts import Counts
from models.catalog import Model
from models.engine import EngineError, Reply, Usage
from router.decision import Basis, Decision
from router.transcript import document_of

if TYPE_CHECKING:
    from gateway.tracing.spans import Trace

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
DECIDE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)
NO_MODEL = "none"  # label of requests that ended before a model was chosen
REASON_LIMIT_CHARACTERS = 1000
REPLAYED = "idempotent"  # what the ledger's `cache` says of a replay
CODE_LIMIT_CHARACTERS = 64  # the ledger's column; an engine may send a longer one
CLOSE_PATIENCE_SECONDS = 2.0  # a cancelled request stops its engine, which takes up to a second, and closes its tab


# A header of the answer, and the field of the charge that it tells.
PROMPT_HEADERS = {
    b"x-prompt-id": "prompt",
    b"x-prompt-version": "prompt_version",
    b"x-prompt-variant": "prompt_variant",
}

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series for each counter doubles a scrape


# How the gauges of several processes make one, in prometheus-client's words: the sum or the most of those that live;
# the sum of all there were, for what is counted "since the start"; or the newest, that of the process which is scraped,
# for what all of them know.
Together = Literal["livesum", "livemax", "sum", "livemostrecent"]

M = TypeVar("M", Counter, Gauge, Histogram)


class Labelled(Generic[M]):
    """A metric with its children by label values; asking prometheus-client for one takes longer than counting."""

    def __init__(self, metric: M, labels: Sequence[str] = ()) -> None:
        """*labels* are their names; a metric without any is its own only child."""
        self._metric: M = metric
        self.label_names = tuple(labels)
        self._children: dict[tuple[str, ...], M] = {} if labels else {(): metric}

    @property
    def name(self) -> str:
        """Without the `_total` of a counter."""
        return self._described.name

    @property
    def text(self) -> str:
        return self._described.documentation

    @property
    def kind(self) -> str:
        return self._described.type

    @property
    def children(self) -> tuple[tuple[tuple[str, ...], M], ...]:
        """As they are now, by their label values."""
        return tuple(self._children.items())

    @property
    def _described(self) -> Metric:
        [metric] = self._metric.describe()
        return metric

    def of(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


class Metrics:
    """Every metric, a line each. Labels come from tables, never from clients, so they are bounded."""

    def __init__(self, registry: CollectorRegistry, counts: Counts | None = None) -> None:
        """*counts*: those of all processes of this gateway, where there are several."""
        self.counts = counts
        self.families: dict[str, Labelled[Any]] = {}

        def listed(metric: M, labels: Sequence[str] = ()) -> Labelled[M]:
            family = Labelled(metric, labels)
            self.families[family.name] = family
            return family

        def counter(name: str, text: str, *labels: str) -> Labelled[Counter]:
            return listed(Counter(f"pointsman_{name}", text, labels, registry=registry), labels)

        def gauge(name: str, text: str, *labels: str, together: Together = "livesum") -> Labelled[Gauge]:
            made = Gauge(f"pointsman_{name}", text, labels, registry=registry, multiprocess_mode=together)
            return listed(made, labels)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Labelled[Histogram]:
            return listed(Histogram(f"pointsman_{name}", text, labels, buckets=buckets, registry=registry), labels)

        self.requests = counter("requests_total", "Requests ended.", "model", "outcome")
        self.decisions = counter("decisions_total", "Decisions, by model and by what they rest on.", "model", "basis")
        self.tokens = counter("tokens_total", "Tokens as the engines counted them.", "model", "type")
        self.cost = counter("cost_usd_total", "Cost of all requests and shadows, US dollars.", "model")
        self.safe_cost = counter("safe_cost_usd_total", "What the safe tier would have cost (estimate), USD.", "model")
        self.unpriced = counter("unpriced_requests_total", "Requests whose cost is not known.", "model")
        self.uncounted = counter("uncounted_requests_total", "Answers whose engine never gave token counts.", "model")
        self.first_chunk = histogram("first_chunk_seconds", "From request to first chunk.", SECONDS, "model")
        self.total = histogram("request_seconds", "From request to end.", SECONDS, "model")
        self.decide = histogram("decide_seconds", "Time the router took.", DECIDE_SECONDS).of()
        self.in_flight = gauge("requests_in_flight", "Requests being answered.").of()
        self.engine_up = gauge("engine_up", "1 when the engine can be called.", "model", together="livemostrecent")
        self.engine_restarts = gauge(
            "engine_restarts",
            "Times the engine's process ended and was started again.",
            "model",
            together="livemostrecent",
        )
        self.engine_queue = gauge("engine_queue_requests", "Requests waiting for a place at the engine.", "model")
        self.engine_in_flight = gauge("engine_in_flight_requests", "Requests being answered by the engine.", "model")
        self.engine_retries = gauge(
            "engine_retries", "Calls made again after one failed, since the start.", "model", together="sum"
        )
        self.engine_hedges = gauge(
            "engine_hedges", "Second calls made as the first was slow, since the start.", "model", together="sum"
        )
        self.engine_breakers_open = gauge(
            "engine_breakers_open", "Replicas that are left alone after failures.", "model", together="livemax"
        )
        self.engine_shed = gauge(
            "engine_shed_requests", "Requests turned away, since the start.", "model", "reason", together="sum"
        )
        self.engine_running = gauge(
            "engine_running_requests",
            "Requests that the engine's server says it computes.",
            "model",
            together="livemostrecent",
        )
        self.engine_waiting = gauge(
            "engine_waiting_requests",
            "Requests that wait inside the engine's server.",
            "model",
            together="livemostrecent",
        )
        self.engine_kv_used = gauge(
            "engine_kv_used_ratio",
            "Used share of the server's room for keys and values.",
            "model",
            together="livemostrecent",
        )
        self.engine_prefix_hits = gauge(
            "engine_prefix_hit_ratio",
            "Share of prompt tokens that the server's prefix cache had, since its start.",
            "model",
            together="livemostrecent",
        )
        self.discarded = counter(
            "discarded_tokens_total",
            "Answer tokens paid for and seen by no client: hedges that lost, failed checks, second opinions.",
            "model",
        )
        self.shadows = counter(
            "shadows_total",
            "Requests drawn to be sent to a cheaper model as well, by what came of it.",
            "model",
            "result",
        )
        self.shadow_cost = counter("shadow_cost_usd_total", "Cost of shadows, a part of all cost, USD.", "model")
        self.cache_lookups = counter(
            "cache_lookups_total", "Requests looked for in the cache, by what came of it.", "kind", "result"
        )
        self.ledger_waiting = gauge("ledger_waiting_charges", "Charges not yet written to the database.").of()
        self.journal_errors = gauge(
            "journal_errors", "Lines that the journal could not take, since the start.", together="sum"
        ).of()
        self.recovered = gauge(
            "ledger_recovered_charges", "Charges taken from journals of dead processes.", together="sum"
        ).of()
        self.lost = gauge("ledger_lost_requests", "Requests whose process died in the middle.", together="sum").of()
        self.unkept_refusals = gauge(
            "ledger_unkept_refusals", "Refused requests without a charge: no room.", together="sum"
        ).of()
        self.feedback = counter("feedback_total", "Outcomes that callers have told, by kind of value.", "kind")
        self.suspended = gauge(
            "suspended_records",
            "Templates times models that an alarm has sent back to the safe tier.",
            together="livemostrecent",
        ).of()
        self.limits_degraded = gauge(
            "limits_degraded", "1 while limits are counted by this process alone.", together="livemax"
        ).of()
        self.reloads = counter("reloads_total", "Reloads of the settings, by result.", "result")
        self.workers = gauge("workers", "Processes that serve.").of()
        self.worker_restarts = counter(
            "worker_restarts_total", "Times such a process ended and was started again."
        ).of()
        self.build_info = gauge("build_info", "1, with the version.", "version", together="livemostrecent")

    def decided(self, model: str, basis: Basis) -> None:
        self.decisions.of(model, basis).inc()


class Meter:
    """Opens tabs; turns each closed one into a charge and into metrics."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self.ledger = ledger
        self.metrics = metrics
        self._tabs: dict[str, Tab] = {}  # the open ones, by request id
        self._none_open = asyncio.Event()

    def open(self, request_id: str, safe: Model) -> "Tab":
        """*safe*: the model with whose cost that of the request is compared."""
        self.metrics.in_flight.inc()
        tab = self._tabs[request_id] = Tab(request_id, self.ledger.intend, self._settle, safe)
        return tab

    def open_shadow(self, shadow_id: str, safe: Model) -> "Tab":
        """Of a call that no client has asked for: it costs what it costs, and is no request."""
        return Tab(shadow_id, self.ledger.intend, self._settle_shadow, safe)

    def is_open(self, request_id: str, caller_id: str) -> bool:
        """Whether this request of this caller is being answered here now."""
        tab = self._tabs.get(request_id)
        return tab is not None and tab.caller == caller_id

    def discard(self, discarded: Discarded) -> None:
        """A hedge that lost: its work goes on the request's tab, while that is open."""
        tab = self._tabs.get(discarded.call.request_id)
        if tab is not None:
            tab.discarded(discarded.usage, discarded.engine_seconds)

    async def close(self) -> None:
        """At shutdown, before the ledger closes: wait for cancelled requests, then close what they left open."""
        if self._tabs:
            self._none_open.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_open.wait(), CLOSE_PATIENCE_SECONDS)
        for tab in tuple(self._tabs.values()):
            tab.close(Outcome.FAILED, None)

    def _settle(self, tab: "Tab", charge: Charge) -> None:
        self._tabs.pop(charge.id, None)
        if not self._tabs:
            self._none_open.set()
        self._count(charge)
        for vain in tab.in_vain:
            self.metrics.discarded.of(vain.model).inc(vain.tokens)
        self.ledger.record(charge)

    def _settle_shadow(self, tab: "Tab", charge: Charge) -> None:
        """Without shadows the safe tier would have cost nothing here, so each takes its cost off what was saved."""
        charge = charge._replace(safe_cost_usd=None if charge.cost_usd is None else Decimal(0), decide_seconds=None)
        label = charge.model or NO_MODEL
        self._count_work(charge, label)
        if charge.cost_usd is not None:
            self.metrics.shadow_cost.of(label).inc(float(charge.cost_usd))
        self.ledger.record(charge)

    def _count(self, charge: Charge) -> None:
        metrics, label = self.metrics, charge.model or NO_MODEL
        metrics.in_flight.dec()
        metrics.requests.of(label, charge.outcome).inc()
        metrics.total.of(label).observe(charge.total_seconds)
        if charge.decide_seconds is not None:
            metrics.decide.observe(charge.decide_seconds)
        if charge.first_chunk_seconds is not None:
            metrics.first_chunk.of(label).observe(charge.first_chunk_seconds)
        if charge.model is not None:  # else nobody was called, and the cache had nothing
            self._count_work(charge, label)

    def _count_work(self, charge: Charge, label: str) -> None:
        metrics = self.metrics
        if charge.prompt_tokens is None or charge.completion_tokens is None:
            metrics.uncounted.of(label).inc()
        else:
            metrics.tokens.of(label, "input").inc(charge.prompt_tokens)
            metrics.tokens.of(label, "output").inc(charge.completion_tokens)
            metrics.tokens.of(label, "cached").inc(charge.cached_tokens or 0)
        if charge.cost_usd is None:
            metrics.unpriced.of(label).inc()
            return
        metrics.cost.of(label).inc(float(charge.cost_usd))
        if charge.safe_cost_usd is not None:  # savings are the difference: it may be negative, so no counter
            metrics.safe_cost.of(label).inc(float(charge.safe_cost_usd))


class InVain(NamedTuple):
    """What a model did for a request that no client saw; `usd` None where it has no price."""

    model: str
    tokens: int
    usd: Decimal | None


class Tab:
    """What is known of one request so far. `close` may be called on every way out; only the first call counts."""

    def __init__(
        self,
        request_id: str,
        intend: Callable[[Charge], None],
        settle: Callable[["Tab", Charge], None],
        safe: Model,
    ) -> None:
        self.request_id = request_id
        self._intend = intend
        self._settle = settle
        self._safe = safe
        self._at = datetime.now(UTC)
        self._start = perf_counter()
        self._known: dict[str, Any] = {"streamed": False}
        self._model: Model | None = None
        self._attempts = 0
        self._called_at: float | None = None
        self._reply: Reply | None = None
        self.in_vain: list[InVain] = []
        self._saved: Usage | None = None  # what an answer from the cache took when it was made
        self.charge: Charge | None = None  # once it is closed
        self.trace: Trace | None = None  # who is told the same things, where the request is traced

    @property
    def seconds(self) -> float:
        """Since the request was received."""
        return perf_counter() - self._start

    @property
    def caller(self) -> str | None:
        caller: str | None = self._known.get("caller")
        return caller

    def asked(self, model: str, *, streamed: bool) -> None:
        self._known.update(asked=model, streamed=streamed)

    def prompted(self, prompt: str, version: int) -> None:
        """The request names this version of a prompt, and there is one."""
        self._known.update(prompt=prompt, prompt_version=version)

    def told(self, variant: str) -> None:
        """Of the version's texts, the one that the model is told which is tried next."""
        self._known["prompt_variant"] = variant

    @property
    def prompt_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """What the client learns of its prompt, whatever became of the request."""
        if "prompt" not in self._known:
            return ()
        told = {name: self._known.get(field) for name, field in PROMPT_HEADERS.items()}
        return [(name, str(value).encode()) for name, value in told.items() if value is not None]

    def held_by(self, caller: Caller, operation: str) -> None:
        self._known.update(caller=caller.id, team=caller.team, operation=operation)

    def replayed(self) -> None:
        """The client gets what it got before, under its own idempotency key; nothing is computed."""
        self._known["cache"] = REPLAYED

    def decided(self, decision: Decision, seconds: float, *, kept: bool = False) -> None:
        """*kept*: with everything that it was made from."""
        self._known.update(
            template=decision.template,
            evidence_group=decision.group,
            decision=orjson.dumps(document_of(decision)).decode() if kept and decision.candidates else None,
            basis=decision.basis.value,
            reason=decision.reason[:REASON_LIMIT_CHARACTERS],
            decide_seconds=seconds,
        )
        if self.trace is not None:
            self.trace.decided(decision, seconds)

    def calling(self, model: Model) -> None:
        """A model is about to be tried: whatever becomes of this process, the ledger will say so."""
        self._model = model
        self._attempts += 1
        self._called_at = self._reply = None
        self._intend(self._charge(Outcome.LOST, None, None))
        if self.trace is not None:
            self.trace.calling(model)
        self._called_at = perf_counter()

    def failed(self, problem: EngineError) -> None:
        """The model that was tried gave nothing; another may follow."""
        if self.trace is not None:
            self.trace.failed(problem)

    def answering(self, reply: Reply) -> None:
        """The first block is here; what *reply* has counted is read when the tab is closed."""
        self._known["first_chunk_seconds"] = self.seconds
        self._reply = reply

    def from_cache(self, model: Model, kind: str, usage: Usage | None) -> None:
        """The cache has what *model* answered before, with *usage*: nobody is called, and it costs nothing."""
        self._model = model
        self._saved = usage
        self._known.update(cache=kind, first_chunk_seconds=self.seconds)

    def not_released(self, usage: Usage | None, engine_seconds: float | None) -> None:
        """The answer of the model that is being tried failed its check; another may follow."""
        if self.trace is not None:
            self.trace.not_released(usage)
        self.discarded(usage, engine_seconds)

    def discarded(self, usage: Usage | None, engine_seconds: float | None, model: Model | None = None) -> None:
        """*model*, or the one that is being tried, made this for the request, and the client will not see it; it costs
        all the same. Where the engine did not count, nothing is known.
        """
        model = model or self._model
        if model is None or usage is None:
            return
        if engine_seconds is None:
            engine_seconds = perf_counter() - self._called_at if self._called_at is not None else 0.0
        cost_usd = model.cost_usd(usage, engine_seconds)
        self.in_vain.append(InVain(model.name, usage.completion_tokens, cost_usd))
        self._known["discarded_tokens"] = sum(vain.tokens for vain in self.in_vain)

    def close(self, outcome: Outcome, status: int | None, code: str | None = None) -> None:
        """Turn the tab into a charge, which outlives this process when this returns."""
        if self.charge is None:
            self.charge = self._charge(outcome, status, code)
            self._settle(self, self.charge)
            if self.trace is not None:
                self.trace.ended(self.charge)

    def _charge(self, outcome: Outcome, status: int | None, code: str | None) -> Charge:
        usage, engine_seconds = self._counts(outcome)
        cost_usd, safe_cost_usd = self._costs(outcome, usage, engine_seconds)
        return Charge(
            id=self.request_id,
            at=self._at,
            outcome=outcome,
            status=status,
            code=code[:CODE_LIMIT_CHARACTERS] if code else None,
            attempts=self._attempts,
            total_seconds=self.seconds,
            model=self._model.name if self._model else None,
            build=self._model.build if self._model else None,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            reasoning_tokens=usage.reasoning_tokens if usage else None,
            cost_usd=cost_usd,
            safe_cost_usd=safe_cost_usd,
            engine_seconds=engine_seconds,
            **self._known,
        )

    def _costs(
        self, outcome: Outcome, usage: Usage | None, engine_seconds: float | None
    ) -> tuple[Decimal | None, Decimal | None]:
        """The cost, and an estimate of what the safe tier would have cost; None for unknown."""
        if outcome is Outcome.LOST:  # what it will have cost by then, nobody knows
            return None, None
        if "cache" in self._known:  # whoever asked first has paid
            return Decimal(0), self._safe.expected_cost_usd(self._saved) if self._saved else None
        cost_usd, safe_cost_usd = _costs(self._model, self._safe, usage, engine_seconds or 0.0)
        for vain in self.in_vain:
            cost_usd = None if cost_usd is None or vain.usd is None else cost_usd + vain.usd
        return cost_usd, safe_cost_usd

    def _counts(self, outcome: Outcome) -> tuple[Usage | None, float | None]:
        """What was computed, as the engine counts it; seconds by our own clock where it does not say."""
        if outcome is Outcome.REFUSED or "cache" in self._known:  # nothing was computed
            return Usage(0, 0), 0.0
        usage = self._reply.usage if self._reply else None
        engine_seconds = self._reply.engine_seconds if self._reply else None
        if engine_seconds is None and self._called_at is not None:
            engine_seconds = perf_counter() - self._called_at
        return usage, engine_seconds


def _costs(
    model: Model | None, safe: Model, usage: Usage | None, engine_seconds: float
) -> tuple[Decimal | None, Decimal | None]:
    """The cost, and an estimate of what the safe tier would have cost; None for unknown."""
    if model is None:
        return None, None
    if usage is None:
        by_time = model.price is not None and model.price.hour_usd is not None
        return model.cost_usd(Usage(0, 0), engine_seconds) if by_time else None, None
    cost_usd = model.cost_usd(usage, engine_seconds)
    return cost_usd, cost_usd if model.name == safe.name else safe.expected_cost_usd(usage)
