"""The OpenAPI document: what FastAPI knows of its own routes, and the endpoints that the guard answers itself."""

from typing import Any

from fastapi import FastAPI

from gateway.api import messages
from gateway.api.endpoints import ENDPOINTS
from gateway.api.inference import Endpoint
from gateway.errors import ERROR_SCHEMA

OPEN = frozenset({"/livez", "/readyz", "/metrics"})  # for probes and scrapers on this machine

# How a request names a prompt of the library; see `gateway.prompting.naming`.
VERSION = {"type": ["string", "integer", "null"], "description": "a version or a label; production when left out"}
VARIABLES = {"type": ["object", "null"], "description": "a value for each of the prompt's variables"}
NAMING = {
    "prompt": {
        "type": ["object", "null"],
        "description": "a prompt of the library",
        "properties": {"id": {"type": "string"}, "version": VERSION, "variables": VARIABLES},
    },
    "prompt_id": {"type": ["string", "null"], "description": "another way to write prompt.id"},
    "prompt_version": VERSION,
    "prompt_variables": VARIABLES,
    "variables": VARIABLES,
}
NAMING_HEADERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": says}
    for name, says in (
        ("x-prompt-id", "a prompt of the library"),
        ("x-prompt-version", "of that prompt: a version or a label; production when left out"),
    )
]
UNLESS_NAMED = "required unless a prompt of the library is named: by prompt, prompt_id, model or the header x-prompt-id"


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
    body = endpoint.body_schema()
    if endpoint.names_prompts:
        body = _naming(body)
    content = {"application/json": {"schema": {**body, "additionalProperties": True}}}
    answers = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "tags": ["inference"],
        "summary": endpoint.summary,
        "operationId": path.removeprefix("/v1/").replace("/", "_"),
        "parameters": NAMING_HEADERS if endpoint.names_prompts else [],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The answer, whole or as events", "content": answers}},
    }


def _naming(body: dict[str, Any]) -> dict[str, Any]:
    """*body* of a request that may name a prompt. What it must have then depends on a header, too, which JSON Schema
    cannot say: words do.
    """
    properties = {**body["properties"], **NAMING}
    for name in body["required"]:
        least = {key: value for key, value in properties[name].items() if key != "minItems"}  # [] beside a prompt
        properties[name] = {**least, "description": UNLESS_NAMED}
    return {**{key: value for key, value in body.items() if key != "required"}, "properties": properties}
