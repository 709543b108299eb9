"""Errors a client can see, each in OpenAI's shape. One class per meaning; the table of meanings is this file."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import ceil
from typing import Any

from gateway.limits.claim import Claim, Kind, NotReserved, Unit
from gateway.limits.claim import Refused as LimitRefused
from gateway.limits.headers import bucket_headers
from models.engine import EngineBusy, EngineCut, EngineError, EngineRefused

NO_DATABASE = "the database does not answer now; see the gateway's log"


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


class ContentRefused(GatewayError):
    """A guardrail of the operator's refuses the request; no model is asked."""

    status, type, code = 400, "invalid_request_error", "content_policy_violation"


class InvalidKey(GatewayError):
    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class NotAllowed(GatewayError):
    """The key is valid and may not do this; `code` says what: model_not_allowed, template_not_allowed."""

    status, type, code = 403, "invalid_request_error", "not_allowed"


class Unpriced(GatewayError):
    """A budget of money can only be kept where the cost of a request has a known bound."""

    status, type, code, param = 400, "invalid_request_error", "model_not_priced", "model"


class BodyTooLarge(GatewayError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class ModelNotFound(GatewayError):
    status, type, code, param = 404, "invalid_request_error", "model_not_found", "model"


class NotFound(GatewayError):
    status, type, code = 404, "invalid_request_error", "not_found"


class Overtaken(GatewayError):
    """What the request would change is not as it was when it was looked at."""

    status, type, code = 412, "invalid_request_error", "precondition_failed"


class NotLookedAt(GatewayError):
    """A change that must say what it was made from, and does not."""

    status, type, code = 428, "invalid_request_error", "precondition_required"


class GateClosed(GatewayError):
    """A prompt's version has not shown that it may serve. `rows`: what it has not shown, beside OpenAI's keys."""

    status, type, code = 409, "invalid_request_error", "prompt_gate"

    def __init__(self, message: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.rows = rows

    def body(self) -> dict[str, Any]:
        error = super().body()["error"]
        return {"error": {**error, "rows": list(self.rows)} if self.rows else error}

    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"}  # OpenAI's clients try again on 409, and no suite runs meanwhile


class PromptNotFound(GatewayError):
    """No such prompt, version or label. Nothing is served in its place."""

    status, type, code, param = 404, "invalid_request_error", "prompt_not_found", "prompt"


class PromptNotRendered(GatewayError):
    """A prompt cannot say the variables that it was given, although its own schema lets them in."""

    status, type, code, param = 422, "invalid_request_error", "prompt_not_rendered", "prompt"


class PromptNotServable(GatewayError):
    """No model may answer with this version: its own words, its promotion or the request's model exclude all."""

    status, type, code, param = 409, "invalid_request_error", "prompt_not_servable", "prompt"

    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"}  # clients of OpenAI's try again on 409


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


class LimitReached(GatewayError):
    """A claim did not fit its limit. `claim` and `remaining` say of which, for logs and metrics."""

    status, type, code = 429, "rate_limit_error", "limit_reached"

    def __init__(self, message: str, claim: Claim, remaining: int, retry_after_seconds: float | None) -> None:
        super().__init__(message)
        self.claim = claim
        self.remaining = remaining
        self.retry_after_seconds = retry_after_seconds


class RateLimited(LimitReached):
    """Too many requests, tokens or answers at once; the same request may pass a little later."""

    code = "rate_limit_exceeded"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), **bucket_headers(self.claim, self.remaining)}


class BudgetSpent(LimitReached):
    """No money left. Clients are told not to try again by themselves, as the SDKs otherwise do."""

    type, code = "insufficient_quota", "insufficient_quota"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "x-should-retry": "false"}


class LimitsUnavailable(GatewayError):
    """The store of the limits does not answer: a budget is not spent blindly."""

    status, type, code = 503, "service_unavailable_error", "limits_unavailable"
    retry_after_seconds = 2.0  # longer than the pause after which the store is asked again


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


def of_limit(error: NotReserved) -> GatewayError:
    """The client's view of a claim that was not granted: which limit, its cap, and when it resets."""
    if not isinstance(error, LimitRefused):
        return LimitsUnavailable("budgets cannot be checked now; see the gateway's log")
    claim = error.claim
    kind = BudgetSpent if claim.unit is Unit.NANO_USD else RateLimited
    return kind(
        f"{_limit(claim)} does not allow this: it takes up to {_amount(claim, claim.amount)}, "
        f"{_amount(claim, error.remaining)} left; {_reset(claim, error.retry_after_seconds)}",
        claim,
        error.remaining,
        error.retry_after_seconds,
    )


def _limit(claim: Claim) -> str:
    """ "the limit of 60 requests per minute of team search"."""
    what = "budget" if claim.unit is Unit.NANO_USD else "limit"
    per = {Kind.WINDOW: f" per {claim.period}", Kind.BUCKET: " per minute", Kind.CONCURRENCY: " at once"}[claim.kind]
    return f"the {what} of {_amount(claim, claim.cap)}{per} of {claim.whose}"


def _amount(claim: Claim, amount: int) -> str:
    if claim.unit is Unit.NANO_USD:
        return f"{(Decimal(amount) / 10**9).normalize():f} USD"
    noun = claim.unit.value
    return f"{amount} {noun.removesuffix('s') if amount == 1 else noun}"


def _reset(claim: Claim, seconds: float | None) -> str:
    if claim.kind is Kind.CONCURRENCY:
        return "try again when another answer is over"
    if claim.kind is Kind.WINDOW:
        return f"the next {claim.period} (UTC) begins in {ceil(claim.resets_seconds or 0)} s"
    return "it never will" if seconds is None else f"try again in {ceil(seconds)} s"
