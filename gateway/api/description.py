"""The OpenAPI document: what FastAPI knows of its own routes, and the endpoints that the guard answers itself."""

from typing import Any

from fastapi import FastAPI

from gateway.api.inference import ENDPOINTS, Endpoint

ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ERROR = {
    "description": "An error; its message says what to do",
    "content": {"application/json": {"schema": ERROR_SCHEMA}},
}


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
            for operations in paths.values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)  # FastAPI's own shape, which never leaves this gateway
                    operation["responses"].update({"4XX": ERROR, "5XX": ERROR})
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


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
