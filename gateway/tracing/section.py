"""The settings of tracing."""

from pydantic import Field

from gateway.section import Section


class TracingSection(Section):
    """Off unless an endpoint is named. Spans have the facts of a decision and a charge, and no text of prompts."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="the collector that takes spans as OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; its "
        "credentials go into OTEL_EXPORTER_OTLP_HEADERS; no traces when unset (extra otel)",
    )
    share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of the requests that are traced, 0 to 1, where their callers do not say by traceparent",
    )
