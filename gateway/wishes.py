"""What a caller wishes of one request's answer, told in headers: how good, how dear, how long, how much held back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from gateway.errors import InvalidRequest
from gateway.schema import Asked
from models.catalog import Model
from models.engine import Usage
from prompts.form import wants_json
from prompts.template import Hold
from router.bar import Bar, parse_bar
from router.expected import Expect, Expected

QUALITY, MAX_COST, MAX_LATENCY = b"x-pointsman-quality", b"x-pointsman-max-cost", b"x-pointsman-max-latency"
HOLD = b"x-pointsman-hold"
CHOOSING = frozenset({QUALITY, MAX_COST, MAX_LATENCY})  # who answers
HEADERS = CHOOSING | {HOLD}
BEST, CHEAPEST, OWN_BAR = "best", "cheapest", "balanced"  # the ends of the knob, and its middle: the operator's bar


@dataclass(frozen=True, slots=True)
class Wishes:
    """`bar`: to be held in place of the operator's; `end`: BEST or CHEAPEST, which look at no bar. None: no wish."""

    bar: Bar | None = None
    end: str | None = None
    max_cost_usd: Decimal | None = None
    max_latency_seconds: float | None = None
    hold: Hold | None = None

    def held_back(self, asked: Asked) -> Hold:
        """Of an answer in a form of its own, or to a request with tools, the beginning says little."""
        usual = Hold.WHOLE if wants_json(asked.body) or asked.body.get("tools") else Hold.FIRST
        return self.hold or usual

    def limit(self, model: Model, expected: Expected) -> str | None:
        """Why *model* is over a limit, as far as can be foreseen; else None. No prompt cache is counted on.

        A price that is not known is over any limit. Where a speed is not known, only waiting takes time.
        """
        usage = Usage(expected.prompt_tokens, expected.completion_tokens)
        if self.max_cost_usd is not None:
            usd = model.expected_cost_usd(usage)
            if usd is None:
                return f"{model.name} has no price"
            if usd > self.max_cost_usd:
                return f"{model.name} would cost about {usd:.6f} USD"
        if self.max_latency_seconds is not None:
            seconds = expected.wait_seconds + (model.expected_seconds(usage) or 0.0)
            if seconds > self.max_latency_seconds:
                return f"{model.name} would take about {seconds:.1f} s"
        return None

    def over_limits(self, models: Sequence[Model], expect: Expect) -> Mapping[str, str]:
        """Which of *models* are over a limit, each with the reason."""
        if self.max_cost_usd is None and self.max_latency_seconds is None:
            return {}
        reasons = {model.name: self.limit(model, expect(model)) for model in models}
        return {name: reason for name, reason in reasons.items() if reason is not None}


NO_WISHES = Wishes()


def wishes_of(headers: Mapping[bytes, bytes], own: Bar) -> Wishes:
    """*own*: the operator's bar. Raises InvalidRequest, which names the header."""
    if HEADERS.isdisjoint(headers):
        return NO_WISHES
    quality, cost, latency, hold = (
        headers.get(name, b"").decode("latin-1").strip() for name in (QUALITY, MAX_COST, MAX_LATENCY, HOLD)
    )
    return Wishes(
        bar=_bar(quality, own),
        end=quality if quality in (BEST, CHEAPEST) else None,
        max_cost_usd=_usd(cost),
        max_latency_seconds=_seconds(latency),
        hold=_hold(hold),
    )


def refusal(reasons: Mapping[str, str]) -> InvalidRequest:
    return InvalidRequest(
        f"no model that holds the bar is within the request's limits: {'; '.join(reasons.values())}",
        param="x-pointsman-max-cost, x-pointsman-max-latency",
        code="over_request_limit",
    )


def _bar(quality: str, own: Bar) -> Bar | None:
    if quality in ("", BEST, CHEAPEST, OWN_BAR):
        return None
    try:
        bar = parse_bar(quality, own.confidence)
    except ValueError as error:
        raise InvalidRequest(
            f"{QUALITY.decode()}: best, balanced, cheapest, or a bar; {error}", param=QUALITY.decode()
        ) from error
    if (bar.margin is None) != (own.margin is None):
        kind = (
            "a margin under the safe tier, such as safe-0.05" if own.margin is not None else "a pass-rate, such as 0.9"
        )
        raise InvalidRequest(f"{QUALITY.decode()}: bars here are {kind}", param=QUALITY.decode())
    return bar


def _usd(written: str) -> Decimal | None:
    if not written:
        return None
    try:
        usd = Decimal(written)
    except InvalidOperation as error:
        raise _no_number(MAX_COST) from error
    if not usd.is_finite() or usd < 0:
        raise _no_number(MAX_COST)
    return usd


def _seconds(written: str) -> float | None:
    if not written:
        return None
    try:
        seconds = float(written)
    except ValueError as error:
        raise _no_number(MAX_LATENCY) from error
    if not 0 < seconds < math.inf:
        raise _no_number(MAX_LATENCY)
    return seconds


def _hold(written: str) -> Hold | None:
    try:
        return Hold(written) if written else None
    except ValueError as error:
        name = HOLD.decode()
        raise InvalidRequest(f"{name}: must be one of {', '.join(Hold)}", param=name) from error


def _no_number(header: bytes) -> InvalidRequest:
    unit = "US dollars" if header == MAX_COST else "seconds"
    return InvalidRequest(f"{header.decode()}: must be a number of {unit}, such as 0.5", param=header.decode())
