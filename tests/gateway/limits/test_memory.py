"""The memory store against a model that keeps every event and adds them up anew each time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.limits import memory
from gateway.limits.claim import DRAIN_UNITS, HOLD_SECONDS, Claim, Kind, Refused, Reservation, Unit
from gateway.limits.memory import MemoryStore
from tests.gateway.limits.benches import MemoryBench, answers, money, requests, tokens

HOLD_MS = HOLD_SECONDS * 1000
MONEY_CAP, TOKENS_CAP, ANSWERS_CAP = 100, 60, 3


@dataclass
class Held:
    """A reservation as the model sees it."""

    claims: tuple[Claim, ...]
    expires_ms: int
    freed: bool = False


class Model:
    """Naive: money and answers are sums over all reservations ever made; a bucket is the list of its changes."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.settled_nano_usd = 0
        self.bucket_units = 0
        self.bucket_at_ms = 0

    def sum(self, unit: Unit) -> int:
        open_ = (h for h in self.held.values() if not h.freed)
        held = sum(claim.amount for h in open_ for claim in h.claims if claim.unit is unit)
        return held + (self.settled_nano_usd if unit is Unit.NANO_USD else 0)

    def bucket(self, now_ms: int, change: int = 0) -> int:
        drained = max(0, self.bucket_units - TOKENS_CAP * (now_ms - self.bucket_at_ms))
        self.bucket_units, self.bucket_at_ms = max(0, drained + change), now_ms
        return self.bucket_units

    def expire(self, now_ms: int) -> None:
        """First what was held too long is given back; as long after that it is forgotten."""
        for key, held in list(self.held.items()):
            if held.expires_ms > now_ms:
                continue
            if held.freed or not any(claim.amount for claim in held.claims):
                del self.held[key]
                continue
            held.freed, held.expires_ms = True, now_ms + HOLD_MS
            self.bucket(now_ms, -self.tokens(held) * DRAIN_UNITS)

    def tokens(self, held: Held) -> int:
        return sum(claim.amount for claim in held.claims if claim.unit is Unit.TOKENS)


class StoreMachine(RuleBasedStateMachine):
    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.bench = MemoryBench()
        self.model = Model()
        self.model.bucket_at_ms = self.bench.now_ms

    @rule(
        target=reservations,
        usd=st.integers(0, MONEY_CAP + 1),
        count=st.integers(0, TOKENS_CAP + 1),
        one=st.booleans(),
    )
    def reserve(self, usd: int, count: int, one: bool) -> Reservation | None:
        now_ms = self.bench.now_ms
        self.model.expire(now_ms)
        claims = [money(usd, MONEY_CAP), tokens(count, TOKENS_CAP), *([answers(ANSWERS_CAP)] if one else [])]
        fits = (
            self.model.sum(Unit.NANO_USD) + usd <= MONEY_CAP
            and self.model.bucket(now_ms) + count * DRAIN_UNITS <= TOKENS_CAP * DRAIN_UNITS
            and (not one or self.model.sum(Unit.ANSWERS) + 1 <= ANSWERS_CAP)
        )
        try:
            made = asyncio.run(self.bench.store.reserve(claims))
        except Refused:
            assert not fits, "a false refusal"
            return None
        assert fits, "more than a cap allows"
        self.model.held[made.id] = Held(made.claims, now_ms + HOLD_MS)
        self.model.bucket(now_ms, count * DRAIN_UNITS)
        return made

    @rule(made=reservations, share=st.integers(0, 100))
    def settle(self, made: Reservation | None, share: int) -> None:
        """Also one that was settled before, or that was given back meanwhile."""
        if made is None:
            return
        usd, count = (claim.amount * share // 100 for claim in made.claims[:2])
        asyncio.run(self.bench.store.settle(made, {Unit.NANO_USD: usd, Unit.TOKENS: count}))
        held = self.model.held.get(made.id)
        if held is None:
            return
        del self.model.held[made.id]
        taken = 0 if held.freed else self.model.tokens(held)
        self.model.settled_nano_usd += usd
        self.model.bucket(self.bench.now_ms, (count - taken) * DRAIN_UNITS)

    @rule(made=consumes(reservations))
    def crash(self, made: Reservation | None) -> None:
        """Nobody settles it any more."""

    @rule(ms=st.sampled_from([1, 999, 1000, 60_000, HOLD_MS - 1, HOLD_MS]))
    def wait(self, ms: int) -> None:
        """Holds are given back when a reservation is asked for, as late as that."""
        self.bench.now_ms += ms
        asyncio.run(self.bench.store.settle(asyncio.run(self.bench.store.reserve([])), {}))
        self.model.expire(self.bench.now_ms)

    @invariant()
    def counts_agree(self) -> None:
        assert asyncio.run(self.bench.used(money(0, MONEY_CAP))) == self.model.sum(Unit.NANO_USD)
        assert asyncio.run(self.bench.used(answers(ANSWERS_CAP))) == self.model.sum(Unit.ANSWERS) <= ANSWERS_CAP


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.anyio
async def test_counters_that_nobody_needs_any_more_are_forgotten_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "PURGE_FLOOR", 10)
    bench = MemoryBench()
    bench.memory._purge_above = 10
    kept = [money(5, 10, "usd:caller:k:2026-11", resets_seconds=30 * 86_400), requests(5)]
    await bench.store.reserve([money(0, 10, "usd:caller:never:2026-11-25")])
    for day in range(60):
        await bench.store.reserve([money(1, 10, f"usd:caller:k:{day}", resets_seconds=86_400)])
        if day == 50:
            await bench.store.settle(await bench.store.reserve(kept), {})
        await bench.advance(86_400_000)
    counters: Mapping[str, object] = bench.memory._counters
    assert len(counters) <= 12
    assert kept[0].key in counters
    assert "usd:caller:k:59" in counters


@pytest.mark.anyio
async def test_claims_of_one_kind_have_keys_of_their_own() -> None:
    store = MemoryStore()
    made = await store.reserve([money(5, 10), money(5, 10, "usd:team:t:2026-11-25"), requests(2)])
    assert made.left == (5, 5, 1)
    assert [claim.kind for claim in made.claims] == [Kind.WINDOW, Kind.WINDOW, Kind.BUCKET]
