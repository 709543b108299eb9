"""From a request to its claims: whose limits apply, and what it could cost at most. Pure, but for `admit`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from gateway.errors import Unpriced
from gateway.keys import Caller
from gateway.ledger.charge import NANO, Charge, nano_usd
from gateway.limits.budgets import NO_LIMITS, Budgets, Limits, Scope
from gateway.limits.claim import Actual, Claim, Kind, LimitStore, Refused, Reservation, Unit, needs_certainty
from gateway.limits.window import DAY, MONTH, Period
from models.catalog import SECONDS_PER_HOUR, TOKENS_PER_PRICE, Model

# A byte-level tokeniser makes no more tokens than there are bytes, and JSON has no fewer bytes than the texts in it.
# What a model's chat template adds is no part of the request: markers around each message, and once a system text of
# its own or instructions for tools; those we know add 10 and 600.
MESSAGE_TOKENS = 16
TEMPLATE_TOKENS = 1024
TOOLS_FACTOR = 2  # templates write tools with indentation
OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody's limits."""

    scope: Scope
    name: str
    shown: str
    limits: Limits


def limits_on(caller: Caller, template: str | None, budgets: Budgets) -> tuple[Holder, ...]:
    """Whose limits apply; empty for most, who then pay no more than this look."""
    found = []
    if caller.limits is not NO_LIMITS and caller.limits:
        found.append(Holder(Scope.CALLER, caller.id, f"key {caller.id}", caller.limits))
    if budgets:
        for scope, name in ((Scope.TEAM, caller.team), (Scope.TEMPLATE, template)):
            limits = budgets.get((scope, name)) if name is not None else None
            if limits:
                assert name is not None
                found.append(Holder(scope, name, f"{scope.value} {name}", limits))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Worst:
    """What a request could take at most: tokens that go in, tokens that come out of each choice, of any of *models*.

    `completion_tokens` None: the request sets no limit, so each model's context is it. `in_vain`: these models' answers
    may have to be paid for besides, since one is looked at and may be thrown away, and one may be a second opinion.
    """

    prompt_tokens: int
    completion_tokens: int | None
    choices: int
    models: tuple[Model, ...]
    in_vain: tuple[Model, ...] = ()

    def tokens(self) -> int:
        return max(map(self._tokens, self.models)) + sum(map(self._tokens, self.in_vain))

    def nano_usd(self) -> int:
        """Rounded up. Raises Unpriced: what is not known is never 0."""
        return max(map(self._cost_nano_usd, self.models)) + self._in_vain_nano_usd()

    def clamp_to(self, remaining_nano_usd: int) -> int | None:
        """How many tokens may come out of each choice for the cost to stay within; None when not even one may.

        Never more than the request, or a model's context, would allow anyway. Raises Unpriced.
        """
        remaining_nano_usd -= self._in_vain_nano_usd()
        most = min(self._affordable(model, remaining_nano_usd) for model in self.models)
        return most if most >= 1 else None

    def limit_tokens(self) -> int:
        """What to tell the engine as the most that may come out, so that it keeps what was reserved."""
        return max(self._completion(model) for model in self.models)

    def _in_vain_nano_usd(self) -> int:
        return sum(map(self._cost_nano_usd, self.in_vain))

    def _tokens(self, model: Model) -> int:
        return self._prompt(model) + self.choices * self._completion(model)

    def _prompt(self, model: Model) -> int:
        return min(self.prompt_tokens, model.context_tokens)

    def _completion(self, model: Model) -> int:
        asked = self.completion_tokens
        return model.context_tokens if asked is None else min(asked, model.context_tokens)

    def _cost_nano_usd(self, model: Model) -> int:
        input_usd, output_usd = _token_prices(model)
        usd = self._prompt(model) * input_usd + self.choices * self._completion(model) * output_usd
        return int((usd * NANO).to_integral_value(ROUND_CEILING))

    def _affordable(self, model: Model, remaining_nano_usd: int) -> int:
        input_usd, output_usd = _token_prices(model)
        left_usd = Decimal(remaining_nano_usd) / NANO - self._prompt(model) * input_usd
        if left_usd < 0:
            return 0
        if output_usd == 0:
            return self._completion(model)
        affordable = (left_usd / (self.choices * output_usd)).to_integral_value(ROUND_FLOOR)
        return min(int(affordable), self._completion(model))


def worst_case(
    body: Mapping[str, Any], body_bytes: int, models: Sequence[Model], in_vain: Sequence[Model] = ()
) -> Worst:
    """Of a checked chat, completion or embedding request whose JSON has *body_bytes*, for any of *models*.

    A picture, a sound or a file may be any number of tokens: such a prompt counts as a whole context.
    """
    messages = body.get("messages") or ()
    asked = [body[name] for name in OUTPUT_FIELDS if body.get(name) is not None]
    prompt_tokens = body_bytes * (TOOLS_FACTOR if body.get("tools") or body.get("functions") else 1)
    prompt_tokens += MESSAGE_TOKENS * len(messages) + TEMPLATE_TOKENS
    if any(_is_media(message) for message in messages):
        prompt_tokens = max(model.context_tokens for model in models)
    completion_tokens = max(asked) if asked else None  # an engine may heed either
    return Worst(prompt_tokens, completion_tokens, body.get("n") or 1, tuple(models), tuple(in_vain))


def largest(cases: Sequence[Worst]) -> Worst:
    """What holds for each of *cases*, which are the same request told in several ways."""
    if len(cases) == 1:
        return cases[0]
    most = [case.completion_tokens for case in cases if case.completion_tokens is not None]
    return replace(
        cases[0],
        prompt_tokens=max(case.prompt_tokens for case in cases),
        completion_tokens=max(most) if len(most) == len(cases) else None,
        choices=max(case.choices for case in cases),
    )


def _is_media(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    if not isinstance(content, list):
        return False
    return any(not isinstance(part, dict) or part.get("type") not in ("text", "refusal") for part in content)


def claims_for(holders: Sequence[Holder], worst: Worst, now: datetime) -> tuple[Claim, ...]:
    """What a request claims of everybody's limits, money first. Empty without limits. Raises Unpriced."""
    claims: list[Claim] = []
    if any(h.limits.day_nano_usd is not None or h.limits.month_nano_usd is not None for h in holders):
        cost, now = worst.nano_usd(), now.astimezone(UTC)
        for holder in holders:
            claims += _money(holder, DAY, holder.limits.day_nano_usd, cost, now)
            claims += _money(holder, MONTH, holder.limits.month_nano_usd, cost, now)
    for holder in holders:
        limits = holder.limits
        claims += _counted(holder, Unit.REQUESTS, Kind.BUCKET, limits.requests_per_minute, 1)
        if limits.tokens_per_minute is not None:
            # A request larger than a minute's worth takes the whole bucket, and settles into debt what it took more.
            tokens = min(worst.tokens(), limits.tokens_per_minute)
            claims += _counted(holder, Unit.TOKENS, Kind.BUCKET, limits.tokens_per_minute, tokens)
        claims += _counted(holder, Unit.ANSWERS, Kind.CONCURRENCY, limits.concurrency, 1)
    return tuple(claims)


def _money(holder: Holder, period: Period, cap: int | None, cost: int, now: datetime) -> list[Claim]:
    if cap is None:
        return []
    key, left = period.key(holder.scope, holder.name, now), period.seconds_left(now)
    return [Claim(key, Kind.WINDOW, Unit.NANO_USD, cost, cap, holder.shown, period.name, left)]


def _counted(holder: Holder, unit: Unit, kind: Kind, cap: int | None, amount: int) -> list[Claim]:
    if cap is None:
        return []
    return [Claim(f"{unit.value}:{holder.scope.value}:{holder.name}", kind, unit, amount, cap, holder.shown)]


@dataclass(frozen=True, slots=True)
class Admission:
    """`max_tokens`: what the engine must be told as the most for each choice, for the reservation to hold; None where
    no money is at stake and the request's own limit does.
    """

    reservation: Reservation
    max_tokens: int | None


async def admit(
    store: LimitStore, holders: Sequence[Holder], worst: Worst, *, clamp: bool, now: datetime
) -> Admission | None:
    """Reserve the worst case; None when there is nothing to reserve. Raises NotReserved, Unpriced.

    With *clamp*, a request that does not fit a budget is made shorter, down to what is left for it; another request
    may take that in between, so it is tried once for each budget.
    """
    claims = claims_for(holders, worst, now)
    if not claims:
        return None
    tries = sum(claim.unit is Unit.NANO_USD for claim in claims) if clamp else 0
    while True:
        try:
            reservation = await store.reserve(claims)
        except Refused as refused:
            fitting = worst.clamp_to(refused.remaining) if refused.claim.unit is Unit.NANO_USD and tries else None
            if fitting is None:
                raise
            tries -= 1
            worst = replace(worst, completion_tokens=fitting)
            claims = claims_for(holders, worst, now)
        else:
            return Admission(reservation, worst.limit_tokens() if needs_certainty(claims) else None)


def actual_of(charge: Charge) -> Actual:
    """What a request came to, for `LimitStore.settle`. Nobody called costs nothing; unknown stays the worst case."""
    if charge.attempts == 0:
        return {Unit.NANO_USD: 0, Unit.TOKENS: 0}
    tokens = None
    if charge.prompt_tokens is not None and charge.completion_tokens is not None:
        tokens = charge.prompt_tokens + charge.completion_tokens
    return {Unit.NANO_USD: nano_usd(charge.cost_usd), Unit.TOKENS: tokens}


def _token_prices(model: Model) -> tuple[Decimal, Decimal]:
    """USD of one token that goes in and one that comes out, at worst. Raises Unpriced.

    By the hour: at the measured speed of one request, shared by all that the engine answers at once. That is an
    estimate; a request that took longer settles at what it took.
    """
    price, speed = model.price, model.speed
    if price is None:
        raise Unpriced(
            f"the model {model.name!r} has no price, and this API key has a budget: ask the operator for one"
        )
    if price.hour_usd is None:
        assert price.input_usd is not None
        assert price.output_usd is not None
        dearest_input = max(price.input_usd, price.cached_input_usd or Decimal(0))
        return dearest_input / TOKENS_PER_PRICE, price.output_usd / TOKENS_PER_PRICE
    if speed is None:
        raise Unpriced(
            f"the model {model.name!r} is paid by the hour and its speed is not known, so no budget can be kept; "
            "ask the operator to measure it"
        )
    second_usd = price.hour_usd * model.parallel / SECONDS_PER_HOUR
    return (
        second_usd / Decimal(repr(speed.prompt_tokens_per_second)),
        second_usd / Decimal(repr(speed.completion_tokens_per_second)),
    )
