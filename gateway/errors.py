"""Errors a client can see, each in OpenAI's shape. One class per meaning; the table of meanings is this file."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson
from starlette.responses import Response

from models.engine import EngineBusy, EngineCut, EngineError, EngineRefused


class GatewayError(Exception):
    """A request that ends in an error. Class attributes say which; `message` says what to do about it."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    param: str | None = None
    retry_after_seconds: float | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param or self.param
        self.code = code or self.code

    def body(self) -> dict[str, Any]:
        """OpenAI's error object: all four keys, always."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        if self.retry_after_seconds is None:
            return {}
        return {"retry-after": str(ceil(self.retry_after_seconds))}


class InvalidRequest(GatewayError):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class InvalidKey(GatewayError):
    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class BodyTooLarge(GatewayError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class ModelNotFound(GatewayError):
    status, type, code, param = 404, "invalid_request_error", "model_not_found", "model"


class NotFound(GatewayError):
    status, type, code = 404, "invalid_request_error", "not_found"


class MethodNotAllowed(GatewayError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"

    def __init__(self, message: str, *, allow: str | None = None) -> None:
        super().__init__(f"{message}; use {allow}" if allow else message)
        self.allow = allow

    def headers(self) -> dict[str, str]:
        return {"allow": self.allow} if self.allow else {}


class Refused(GatewayError):
    """The engine says the request is wrong; its status, code and param are passed on."""

    type = "invalid_request_error"

    def __init__(self, error: EngineRefused) -> None:
        super().__init__(error.message, param=error.param, code=error.code or "invalid_request")
        self.status = error.status


class Overloaded(GatewayError):
    status, type, code = 503, "service_unavailable_error", "server_is_overloaded"

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageFull(GatewayError):
    status, type, code = 507, "server_error", "storage_full"

    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"}  # a disk does not empty itself in a client's seconds


class KeyInUse(GatewayError):
    """The first request with an idempotency key is still being answered. Clients of OpenAI's try again on 409."""

    status, type, code = 409, "invalid_request_error", "idempotency_key_in_use"
    retry_after_seconds = 1.0


class Unavailable(GatewayError):
    status, type, code = 503, "service_unavailable_error", "engine_unavailable"
    retry_after_seconds = 2.0  # an engine that crashed is back in about that time


class Cut(GatewayError):
    """The answer broke off after it had begun; sent as an event in the stream, never replayed."""

    status, type, code = 502, "server_error", "engine_cut"


class Internal(GatewayError):
    """Our own fault. The client learns the request id and nothing of our insides."""


def of_engine(error: EngineError) -> GatewayError:
    """The client's view of an engine's error."""
    if isinstance(error, EngineRefused):
        return Refused(error)
    if isinstance(error, EngineBusy):
        return Overloaded(error.message, error.retry_after_seconds or 1.0)
    if isinstance(error, EngineCut):
        return Cut(error.message)
    return Unavailable(error.message)


def error_response(error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(error.body()),
        status_code=error.status,
        media_type="application/json",
        headers={**error.headers(), **(headers or {})},
    )
