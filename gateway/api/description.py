"""The OpenAPI document: what FastAPI knows of its own routes, and the endpoints that the guard answers itself."""

from typing import Any

from fastapi import FastAPI

from gateway.api import messages
from gateway.api.endpoints import ENDPOINTS
from gateway.api.inference import Endpoint
from gateway.errors import ERROR_SCHEMA

OPEN = frozenset({"/livez", "/readyz", "/metrics"})  # for probes and scrapers on this machine


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` tell of every path."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = own()
            paths = document["paths"]
            paths.update({path: {"post": _operation(path, endpoint)} for path, endpoint in ENDPOINTS.items()})
            document.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
            for path, operations in paths.items():
                for operation in operations.values():
                    operation["responses"].pop("422", None)  # FastAPI's own shape, which never leaves this gateway
                    operation["responses"].update({"4XX": _error(path), "5XX": _error(path)})
                    if path in OPEN:
                        operation["security"] = []
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _error(path: str) -> dict[str, Any]:
    schema = messages.ERROR_SCHEMA if path.startswith(messages.PATHS) else ERROR_SCHEMA
    said = "An error; its message says what to do"
    return {"description": said, "content": {"application/json": {"schema": schema}}}


def _operation(path: str, endpoint: Endpoint) -> dict[str, Any]:
    content = {"application/json": {"schema": {**endpoint.body_schema(), "additionalProperties": True}}}
    answers = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "tags": ["inference"],
        "summary": endpoint.summary,
        "operationId": path.removeprefix("/v1/").replace("/", "_"),
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The answer, whole or as events", "content": answers}},
    }
