"""The spans of one request: its own, one for the decision, and one for each model that was called.

They tell what the headers and the ledger tell, in OpenTelemetry's words where it has some (`gen_ai.*`, `http.*`) and as
`pointsman.*` elsewhere; never a text of a prompt or an answer. They are sent by a thread of their own, in batches, from
a queue that drops what is too much; a collector that does not answer costs no request anything. This is the one module
that imports OpenTelemetry.
"""

import logging
import os
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import wraps
from threading import Thread
from time import time_ns
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.ledger.charge import Charge, Outcome
from models.catalog import Model
from models.engine import Usage
from router.decision import Decision

log = structlog.get_logger(__name__)

QUEUE_SPANS = 2_048  # that wait to be sent; some 2 MB
BATCH_SPANS = (
    128  # encoded at once: 128 take some milliseconds, in which a request may have to wait for the interpreter
)
EVERY_SECONDS = 2.0  # at the latest a span is sent
SEND_SECONDS = 5.0  # for one batch, its repetitions included
CLOSE_SECONDS = 2.0  # at shutdown, for all that waits
VALUE_CHARACTERS = 1_000
TRACES_PATH = "/v1/traces"  # of an endpoint that names none

# What OpenTelemetry calls the operation of a path; the others are of conversations.
OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}
CARRIED = (b"traceparent", b"tracestate")
NO_HEADERS: Mapping[str, str] = {}

Attributes = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")


def _harmless(method: Callable[P, R]) -> Callable[P, R | None]:
    """A fault of tracing is logged, and the request goes on."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(*args, **kwargs)
        except Exception:
            log.exception("a span is lost")
            return None

    return guarded


class Tracing:
    """What sends to one collector. Lives as long as the process."""

    def __init__(self, endpoint: str, share: float, version: str) -> None:
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # it warns before each repetition
        self._exporter = OTLPSpanExporter(_with_path(endpoint), timeout=SEND_SECONDS)
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create(
                {
                    "service.name": "pointsman",
                    "service.version": version,
                    "service.instance.id": str(uuid4()),
                    "process.pid": os.getpid(),
                }
            ),
            span_limits=SpanLimits(max_attribute_length=VALUE_CHARACTERS),
            shutdown_on_exit=False,
        )
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE_SPANS,
            schedule_delay_millis=1000 * EVERY_SECONDS,
            max_export_batch_size=BATCH_SPANS,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("pointsman", version)
        self._carrier = TraceContextTextMapPropagator()

    @_harmless
    def begin(self, request_id: str, path: str, headers: Mapping[bytes, bytes]) -> "Trace":
        """Of a request that was just received, with its *headers*: a part of the caller's trace, if these name one."""
        carried = {name.decode(): headers[name].decode("latin-1") for name in CARRIED if name in headers}
        parent = self._carrier.extract(carried, Context()) if carried else Context()
        return Trace(self._tracer, self._carrier, parent, request_id, path)

    def close(self) -> None:
        """Send what waits; give up after CLOSE_SECONDS. Blocking."""
        closing = Thread(target=self._processor.shutdown, name="the last spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            log.warning("the last spans are lost: the collector does not answer")
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


class Trace:
    """The spans of one request, from the reception to the charge. Nothing here raises."""

    __slots__ = ("_call", "_carrier", "_context", "_decision", "_operation", "_span", "_tracer")

    def __init__(
        self, tracer: Tracer, carrier: TraceContextTextMapPropagator, parent: Context, request_id: str, path: str
    ) -> None:
        self._tracer = tracer
        self._carrier = carrier
        self._operation = OPERATIONS.get(path, "chat")
        told: Attributes = {"http.request.method": "POST", "http.route": path, "url.path": path}
        told |= {"gen_ai.operation.name": self._operation, "pointsman.request_id": request_id}
        self._span = tracer.start_span(f"POST {path}", parent, SpanKind.SERVER, told)
        self._context = set_span_in_context(self._span, parent)
        self._decision: Decision | None = None
        self._call: Span | None = None

    @_harmless
    def decided(self, decision: Decision, seconds: float) -> None:
        self._decision = decision
        if self._span.is_recording():
            now = time_ns()
            began = now - int(1e9 * seconds)
            told = _present(of_decision(decision))
            self._tracer.start_span("decide", self._context, attributes=told, start_time=began).end(now)

    @_harmless
    def calling(self, model: Model, prompt: str | None, version: int | None, variant: str | None) -> None:
        """What was called before has failed. *prompt*: of the library, in its *variant* for this model."""
        told: Attributes = {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": provider_of(model),
            "gen_ai.request.model": model.name,
            "pointsman.build": model.build,
            "pointsman.tier": model.tier,
            **of_prompt(prompt, version, variant),
        }
        name = f"{self._operation} {model.name}"
        self._call = self._tracer.start_span(name, self._context, SpanKind.CLIENT, _present(told))

    def headers(self) -> Mapping[str, str]:
        """For the engine that is being called, so that its spans are below ours."""
        return self._headers() or NO_HEADERS

    @_harmless
    def _headers(self) -> Mapping[str, str]:
        carried: dict[str, str] = {}
        if self._call is not None:
            self._carrier.inject(carried, set_span_in_context(self._call, self._context))
        return carried

    @_harmless
    def failed(self, error: Exception) -> None:
        """The call that is under way has given nothing to the client, and another may follow."""
        self._end_call({"error.type": type(error).__name__}, failure=True)

    @_harmless
    def not_released(self, usage: Usage | None) -> None:
        """Its answer did not pass its check."""
        told = of_usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) if usage else {}
        self._end_call({**told, "pointsman.check": "failed"}, failure=False)

    @_harmless
    def ended(self, charge: Charge) -> None:
        """The request is over, and charged."""
        is_fault = charge.outcome in (Outcome.FAILED, Outcome.CUT)
        used = of_usage(charge.prompt_tokens, charge.completion_tokens, charge.cached_tokens, charge.reasoning_tokens)
        answered: Attributes = {
            "gen_ai.response.model": charge.model,
            "gen_ai.response.time_to_first_chunk": charge.first_chunk_seconds,
            **used,
        }
        error: Attributes = {"error.type": charge.code or charge.outcome.value} if charge.outcome != Outcome.OK else {}
        self._end_call({**answered, **error}, failure=charge.outcome is not Outcome.OK)
        self._span.set_attributes(_present({**answered, **of_charge(charge), **self._checked(charge)}))
        if is_fault:
            self._span.set_attribute("error.type", error["error.type"])
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def _end_call(self, told: Attributes, *, failure: bool) -> None:
        if self._call is None:
            return
        self._call.set_attributes(_present(told))
        if failure:
            self._call.set_status(Status(StatusCode.ERROR))
        self._call.end()
        self._call = None

    def _checked(self, charge: Charge) -> Attributes:
        """As the header x-pointsman-check has it."""
        decision = self._decision
        if decision is None or decision.check is None or charge.cache is not None or charge.outcome != Outcome.OK:
            return {}
        return {"pointsman.check": "passed" if charge.model == decision.model else "failed"}


def of_decision(decision: Decision) -> Attributes:
    """What the ledger's record of it says, without that of the candidates which do not serve."""
    chosen = next((c for c in decision.candidates if c.model == decision.model), None)
    shown = chosen.shown if chosen is not None else None
    expected = chosen.expected if chosen is not None else None
    check = decision.check
    return {
        "pointsman.model": decision.model,
        "pointsman.order": decision.order,
        "pointsman.basis": decision.basis.value,
        "pointsman.reason": decision.reason,
        "pointsman.template": decision.template,
        "pointsman.group": decision.group,
        "pointsman.bound": shown.lower if shown is not None else None,
        "pointsman.verdict": shown.verdict.value if shown is not None else None,
        "pointsman.candidates": [candidate.model for candidate in decision.candidates],
        "pointsman.expected_usd": _usd(chosen.expected_usd) if chosen is not None else None,
        "pointsman.expected_prompt_tokens": expected.prompt_tokens if expected is not None else None,
        "pointsman.expected_cached_tokens": expected.cached_tokens if expected is not None else None,
        "pointsman.expected_completion_tokens": expected.completion_tokens if expected is not None else None,
        "pointsman.expected_wait_seconds": expected.wait_seconds if expected is not None else None,
        "pointsman.held_tokens": check.hold_tokens if check is not None else None,
        "pointsman.held_seconds": check.hold_seconds if check is not None else None,
    }


def of_charge(charge: Charge) -> Attributes:
    return {
        "http.response.status_code": charge.status,
        "gen_ai.request.model": charge.asked,
        "gen_ai.request.stream": charge.streamed,
        **of_prompt(charge.prompt, charge.prompt_version, charge.prompt_variant),
        "pointsman.outcome": charge.outcome.value,
        "pointsman.code": charge.code,
        "pointsman.template": charge.template,
        "pointsman.group": charge.evidence_group,
        "pointsman.basis": charge.basis,
        "pointsman.reason": charge.reason,
        "pointsman.cost_usd": _usd(charge.cost_usd),
        "pointsman.safe_cost_usd": _usd(charge.safe_cost_usd),
        "pointsman.cache": charge.cache,
        "pointsman.attempts": charge.attempts,
        "pointsman.discarded_tokens": charge.discarded_tokens,
        "pointsman.decide_seconds": charge.decide_seconds,
    }


def of_prompt(name: str | None, version: int | None, variant: str | None) -> Attributes:
    """Of the library; `gen_ai.prompt.variable.*`, which the conventions have too, would be texts."""
    return {
        "gen_ai.prompt.name": name,
        "gen_ai.prompt.version": str(version) if version is not None else None,
        "pointsman.prompt.variant": variant,
    }


def of_usage(
    prompt: int | None, completion: int | None, cached: int | None, reasoning: int | None = None
) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.output_tokens": completion,
        "gen_ai.usage.cache_read.input_tokens": cached,
        "gen_ai.usage.reasoning.output_tokens": reasoning or None,
    }


def provider_of(model: Model) -> str:
    """Whoever answers, as far as the catalogue says: LiteLLM's name of the provider, else how the model is called."""
    if model.engine == "litellm":
        return model.remote_name.partition("/")[0]
    return model.engine


def _present(told: Attributes) -> Attributes:
    """An attribute has a value, or is not there."""
    return {name: value for name, value in told.items() if value is not None}


def _usd(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)  # OTLP has no decimals; the ledger has the exact amount


def _with_path(endpoint: str) -> str:
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + TRACES_PATH
