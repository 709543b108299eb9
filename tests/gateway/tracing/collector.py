"""A collector of spans: a small HTTP server on loopback that reads OTLP with OpenTelemetry's own protobuf classes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

ARRIVAL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it arrived. `kind` and `status` are OTLP's names."""

    name: str
    kind: str
    status: str
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    seconds: float
    attributes: dict[str, Any]


@dataclass(slots=True)
class Collector:
    """`raw` are the bodies as they came. While `answers` is not set nobody gets an answer."""

    url: str = ""
    raw: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)
    answers: Event = field(default_factory=Event)

    def take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        self.paths.append(path)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({a.key: _value(a.value) for a in group.resource.attributes})
            self.spans += [_seen(span) for scope in group.scope_spans for span in scope.spans]

    async def until(self, count: int) -> list[Seen]:
        """The spans, once there are so many; those that began first are first."""
        async with asyncio.timeout(ARRIVAL_SECONDS):
            while len(self.spans) < count:  # noqa: ASYNC110  # another thread's list
                await asyncio.sleep(0.02)
        assert len(self.spans) == count, self.spans
        return self.spans

    def one(self, name: str) -> Seen:
        [found] = [span for span in self.spans if span.name == name]
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    collector.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(self.path, body)
            collector.answers.wait()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A gateway that has given up waiting."""

    with Server(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield collector
        finally:
            collector.answers.set()
            server.shutdown()
            serving.join()


def _seen(span: Span) -> Seen:
    return Seen(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind),
        status=span.status.StatusCode.Name(span.status.code),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes={a.key: _value(a.value) for a in span.attributes},
    )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(inner) for inner in value.array_value.values]
    return getattr(value, kind) if kind else None
