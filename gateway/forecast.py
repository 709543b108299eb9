"""What a request is expected to take of each model, learned from the charges of this process. Bounded; no I/O."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from time import monotonic
from typing import Protocol

import structlog

from gateway.ledger.charge import Charge, Outcome
from gateway.limits.policy import OUTPUT_FIELDS
from gateway.mean import Mean
from gateway.prefixes import Prefix, Prefixes, shared_bytes
from gateway.schema import Asked
from models.catalog import Ability, Model
from models.engine import Operation
from router.expected import Expect, Expected

log = structlog.get_logger(__name__)

TOKENS_PER_BYTE = 0.25  # of JSON, before a model has counted any
USUAL_TOKENS = 256  # of an answer, before one was seen and where the request sets no limit
TEMPLATES_LIMIT = 4_096  # whose answers' lengths are remembered, the ones used last
MEDIA = frozenset(
    {Ability.IMAGES, Ability.AUDIO, Ability.FILES, Ability.MEDIA_URLS}
)  # whose bytes say little of tokens
LEAST_TOKENS = 64  # of a warm beginning; of shorter ones many engines keep nothing


class Waiting(Protocol):
    """A model's places; see `gateway.dispatch.Dispatcher`."""

    @property
    def turns_before(self) -> float: ...

    @property
    def call_seconds(self) -> float | None: ...


class Lengths:
    """How long answers of one template are, in tokens: by model, and by all of them for one that has given none."""

    __slots__ = ("by_model", "of_all")

    def __init__(self) -> None:
        self.of_all = Mean()
        self.by_model: dict[str, Mean] = {}

    def expected(self, model: str) -> float:
        return self.by_model.get(model, self.of_all).value

    def take(self, model: str, tokens: float) -> None:
        self.of_all.take(tokens)
        of_model = self.by_model.get(model)
        if of_model is None:
            of_model = self.by_model[model] = Mean()
        of_model.take(tokens)


class Reading:
    """What is known of how a model reads: tokens for each byte, and which share of what should be in its prompt cache
    its engine says is.
    """

    __slots__ = ("kept", "tokens_per_byte")

    def __init__(self) -> None:
        self.tokens_per_byte = Mean()
        self.kept = Mean()


NOBODY: Mapping[str, Waiting] = {}
FRESH = Reading()  # of a model that has not answered yet; never written to


class Forecaster:
    """From one thread. Lives as long as the process."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.prefixes = Prefixes(clock)
        self._lengths: OrderedDict[str | None, Lengths] = OrderedDict()
        self._reading: dict[str, Reading] = {}

    def of(
        self,
        asked: Asked,
        template: str | None,
        engines: Mapping[str, Waiting] = NOBODY,
        wait_second_usd: Decimal = Decimal(0),
    ) -> Expect:
        """What *asked* is expected to take; nothing is looked at before that is asked for."""
        return _Forecast(self, asked, template, engines, wait_second_usd).of

    def lengths(self, template: str | None) -> Lengths | None:
        """Of the template's answers; of those without a template together."""
        return self._lengths.get(template)

    def reading(self, model: str) -> Reading:
        return self._reading.get(model, FRESH)

    def asking(self, asked: Asked, template: str | None, model: Model) -> Callable[[Charge | None], None]:
        """*model* has read *asked*. What is returned is to be called with its charge; None where there is none."""
        if asked.operation is not Operation.CHAT:
            return _ignore
        try:
            warm = self.prefixes.note(template, asked.body, asked.body_bytes, model.name)
        except Exception:  # the client gets its answer all the same
            log.exception("what a model has read cannot be noted")
            return _ignore
        return partial(self._learn, asked, template, model.name, warm)

    def _learn(self, asked: Asked, template: str | None, model: str, warm: int, charge: Charge | None) -> None:
        try:
            self._learn_from(asked, template, model, warm, charge)
        except Exception:  # the client has its answer
            log.exception("nothing is learned from a charge")

    def _learn_from(self, asked: Asked, template: str | None, model: str, warm: int, charge: Charge | None) -> None:
        """Of answers that have come to their end, as the engine has counted them."""
        if charge is None or charge.outcome is not Outcome.OK or charge.model != model:
            return
        if not charge.prompt_tokens or charge.completion_tokens is None:
            return
        self._learn_length(template, model, charge.completion_tokens / (asked.body.get("n") or 1))
        if asked.needs & MEDIA:
            return
        reading = self._reading.get(model)
        if reading is None:
            reading = self._reading[model] = Reading()  # as many as there are models
        reading.tokens_per_byte.take(charge.prompt_tokens / asked.body_bytes)
        warm_tokens = warm * reading.tokens_per_byte.value
        if warm_tokens >= LEAST_TOKENS:
            reading.kept.take(min(1.0, (charge.cached_tokens or 0) / warm_tokens))

    def _learn_length(self, template: str | None, model: str, tokens: float) -> None:
        lengths = self._lengths.get(template)
        if lengths is None:
            lengths = self._lengths[template] = Lengths()
            if len(self._lengths) > TEMPLATES_LIMIT:
                self._lengths.popitem(last=False)
        else:
            self._lengths.move_to_end(template)
        lengths.take(model, tokens)


class _Forecast:
    """Of one request: what is the same for all models is looked up once, when the first one is asked for."""

    __slots__ = (
        "_asked",
        "_choices",
        "_engines",
        "_forecaster",
        "_lengths",
        "_most_tokens",
        "_now",
        "_prefixes",
        "_template",
        "_wait_second_usd",
    )

    def __init__(
        self,
        forecaster: Forecaster,
        asked: Asked,
        template: str | None,
        engines: Mapping[str, Waiting],
        wait_second_usd: Decimal,
    ) -> None:
        self._forecaster = forecaster
        self._asked = asked
        self._template = template
        self._engines = engines
        self._wait_second_usd = wait_second_usd
        self._prefixes: Sequence[Prefix] | None = None  # until they are looked up, with all the others

    def of(self, model: Model) -> Expected:
        prefixes = self._prefixes
        if prefixes is None:
            prefixes = self._prefixes = self._look_up()
        name = model.name
        reading = self._forecaster.reading(name)
        tokens_per_byte = reading.tokens_per_byte.value or TOKENS_PER_BYTE
        prompt_tokens = int(self._asked.told(name).body_bytes * tokens_per_byte)
        cached_tokens = 0
        if prefixes:
            kept = reading.kept.value if reading.kept.count else 1.0
            cached_tokens = int(shared_bytes(prefixes, name, self._now) * tokens_per_byte * kept)
            if cached_tokens >= prompt_tokens:
                cached_tokens = prompt_tokens - 1 if prompt_tokens else 0
        length = self._lengths.expected(name) if self._lengths else USUAL_TOKENS
        completion_tokens = self._choices * int(length if length < self._most_tokens else self._most_tokens)
        expected = Expected(prompt_tokens, completion_tokens, cached_tokens)
        engine = self._engines.get(name)
        turns = engine.turns_before if engine is not None else 0
        return expected if engine is None or not turns else self._waiting(expected, turns, engine.call_seconds, model)

    def _waiting(self, expected: Expected, turns: float, call_seconds: float | None, model: Model) -> Expected:
        """With the wait for a place, whose calls take as long as this one where none has told how long they take."""
        seconds = turns * (call_seconds or model.expected_seconds(expected) or 0.0)
        return expected._replace(wait_seconds=seconds, wait_usd=self._wait_second_usd * Decimal(repr(seconds)))

    def _look_up(self) -> Sequence[Prefix]:
        """The prefixes; the rest is kept beside them."""
        asked, body = self._asked, self._asked.body
        limits = [body[name] for name in OUTPUT_FIELDS if body.get(name) is not None]
        self._most_tokens = min(limits) if limits else math.inf
        self._choices = body.get("n") or 1
        self._lengths = self._forecaster.lengths(self._template)
        self._now = self._forecaster.prefixes.now
        if asked.operation is not Operation.CHAT or asked.needs & MEDIA:
            return ()
        return self._forecaster.prefixes.of(self._template, body)


def _ignore(charge: Charge | None) -> None:
    """For what nothing is learned from."""
