"""Limits that replicas share through Redis or Valkey, a script for each step. Needs the extra `redis`.

A Redis that is slow or gone adds at most DEADLINE_SECONDS to a request, and only to those that come when it is asked
again. Meanwhile rates are kept by each process alone, and whoever has a budget of money is refused. Counts that Redis
lost come back from the ledger. It may not evict (`maxmemory-policy noeviction`): an evicted counter is money unspent.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.limits.batches import Batches, Script, script
from gateway.limits.claim import (
    HOLD_SECONDS,
    NEVER_BEGUN,
    SEEDED_KEPT_SECONDS,
    WINDOW_KEPT_SECONDS,
    Actual,
    Claim,
    Refused,
    Reservation,
    Unreachable,
    came_to,
    needs_certainty,
)
from gateway.limits.memory import MemoryStore
from gateway.limits.uninterrupted import Uninterrupted
from gateway.limits.unsettled import Unsettled

log = structlog.get_logger(__name__)

DEADLINE_SECONDS = 0.05  # what a dead or slow Redis may add to a request
PAUSE_SECONDS = 1.0  # without asking it again: a slow Redis is not made slower, and few requests wait for it
PREFIX = "{pointsman}:"  # braces: one slot of a cluster, as a script needs
ID_BYTES = 12

# Returned in the first place of a reservation's answer.
TAKEN, FULL, UNSEEDED = 1, 0, -1

# Times are Redis's own, one clock for all replicas; one that was set back drains nothing, and goes on from there.
# Numbers are doubles: every cap is far below 2^53.
DRAINED = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local function drained(key, drain)
  local counter = redis.call('HMGET', key, 'used', 'at')
  local used, at = tonumber(counter[1] or 0), tonumber(counter[2] or now)
  if at > now then redis.call('HSET', key, 'at', text(now)) end
  if drain > 0 and at < now then used = used - drain * (now - at) end
  return math.max(0, used)
end
local function set(key, used, keep)
  redis.call('HSET', key, 'used', text(math.max(0, used)), 'at', text(now))
  redis.call('PEXPIRE', key, keep)
end
"""

# KEYS: seeded, holds, this hold, a counter for each claim.
# ARGV: id, prefix of holds, milliseconds of a hold, 1 for money, then for each claim: units, capacity, drain, keep.
RESERVE = script(
    DRAINED
    + """
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return {-1} end
local hold_ms = tonumber(ARGV[3])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)) do
  local hold = ARGV[2] .. id
  local held = redis.call('HGETALL', hold)
  local freed = 0
  for place = 1, #held, 2 do
    local key, units = held[place], tonumber(held[place + 1])
    if units > 0 and redis.call('EXISTS', key) == 1 then
      local used = tonumber(redis.call('HGET', key, 'used'))
      redis.call('HSET', key, 'used', text(math.max(0, used - units)))
    end
    if units > 0 then redis.call('HSET', hold, key, '0') end
    freed = freed + units
  end
  if freed > 0 then
    redis.call('ZADD', KEYS[2], text(now + hold_ms), id)
  else
    redis.call('DEL', hold)
    redis.call('ZREM', KEYS[2], id)
  end
end
local used = {}
for claim = 1, #KEYS - 3 do
  local first = 1 + 4 * claim
  local units, capacity, drain = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  used[claim] = drained(KEYS[3 + claim], drain)
  if used[claim] + units > capacity then return {0, claim, text(used[claim])} end
  used[claim] = used[claim] + units
end
local answer = {1}
for claim = 1, #KEYS - 3 do
  local first = 1 + 4 * claim
  set(KEYS[3 + claim], used[claim], ARGV[first + 3])
  redis.call('HSET', KEYS[3], KEYS[3 + claim], ARGV[first])
  answer[1 + claim] = text(used[claim])
end
redis.call('ZADD', KEYS[2], text(now + hold_ms), ARGV[1])
redis.call('PEXPIRE', KEYS[3], 4 * hold_ms)
redis.call('PEXPIRE', KEYS[2], 4 * hold_ms)
return answer
"""
)

# KEYS: holds, this hold, a counter for each claim. ARGV: id, then for each claim: units it came to, drain, keep.
SETTLE = script(
    DRAINED
    + """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
for claim = 1, #KEYS - 2 do
  local key, first = KEYS[2 + claim], 3 * claim - 1
  local held = redis.call('HGET', KEYS[2], key)
  if held then
    set(key, drained(key, tonumber(ARGV[first + 1])) + tonumber(ARGV[first]) - tonumber(held), ARGV[first + 2])
  end
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
"""
)

# KEYS: seeded, a counter for each window. ARGV: keep, then what each has spent at least.
SEED = script(
    DRAINED
    + """
for place = 2, #KEYS do
  local spent = tonumber(ARGV[place])
  if drained(KEYS[place], 0) < spent then set(KEYS[place], spent, ARGV[1]) end
end
redis.call('SET', KEYS[1], '1')
return 1
"""
)


def connect(url: str) -> Redis:
    """A client that fails fast: no retries of its own, every wait within the deadline."""
    client: Redis = Redis.from_url(
        url,
        socket_timeout=DEADLINE_SECONDS,
        socket_connect_timeout=DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client


class RedisStore:
    """A LimitStore for replicas. *spent* reads from the ledger what Redis does not know any more."""

    def __init__(
        self,
        client: Redis,
        spent: Callable[[], Awaitable[Mapping[str, int]]],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._batches = Batches(client, DEADLINE_SECONDS)
        self._spent = spent
        self._clock = clock
        self._local = MemoryStore()
        self._paused_until = float("-inf")
        self._unsettled = Unsettled(self._settle)
        self._steps = Uninterrupted()
        self._seeding = False
        self.degraded = False

    async def reserve(self, claims: Sequence[Claim]) -> Reservation:
        claims = tuple(claims)
        try:
            reservation = await self._steps.run(self._take(claims), self._give_back)
        except Unreachable:
            if needs_certainty(claims):
                raise
            return replace(await self._local.reserve(claims), degraded=True)
        return reservation

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        if reservation.degraded:
            await self._local.settle(reservation, actual)
        else:
            await self._steps.run(self._unsettled.settle(reservation, actual))

    async def seed(self, spent: Mapping[str, int]) -> None:
        keep = SEEDED_KEPT_SECONDS * 1000
        keys = [f"{PREFIX}seeded", *(f"{PREFIX}{key}" for key in spent)]
        await self._ask(SEED, keys, [keep, *spent.values()])

    async def close(self) -> None:
        await self._steps.close()
        await self._unsettled.again()
        await self._batches.close()

    async def _take(self, claims: tuple[Claim, ...]) -> Reservation:
        reservation = Reservation(secrets.token_hex(ID_BYTES), claims, ())
        keys = [f"{PREFIX}seeded", f"{PREFIX}holds", _hold(reservation.id), *(PREFIX + claim.key for claim in claims)]
        arguments: list[str | int] = [reservation.id, _hold(""), HOLD_SECONDS * 1000, int(needs_certainty(claims))]
        for claim in claims:
            arguments += [claim.amount * claim.scale, claim.cap * claim.scale, claim.drain, _keep_ms(claim)]
        if self._clock() < self._paused_until:
            raise Unreachable("Redis did not answer a moment ago")
        try:
            answer = await self._ask(RESERVE, keys, arguments)
        except Unreachable:
            self._unsettled.doubt(reservation)
            raise
        if self._unsettled:
            self._steps.begin(self._unsettled.again())
        outcome, *used = (int(number) for number in answer)
        if outcome == UNSEEDED:
            self._reseed()
            raise Unreachable("Redis has lost its counts; they are being read from the ledger")
        if outcome == FULL:
            claim = claims[used[0] - 1]
            raise Refused(claim, claim.left(used[1]), claim.retry_after_seconds(used[1]))
        return replace(
            reservation, left=tuple(claim.left(now_used) for claim, now_used in zip(claims, used, strict=True))
        )

    async def _give_back(self, reservation: Reservation) -> None:
        await self._unsettled.settle(reservation, NEVER_BEGUN)

    async def _settle(self, reservation: Reservation, actual: Actual) -> None:
        keys = [f"{PREFIX}holds", _hold(reservation.id), *(PREFIX + claim.key for claim in reservation.claims)]
        arguments: list[str | int] = [reservation.id]
        for claim in reservation.claims:
            arguments += [came_to(claim, actual) * claim.scale, claim.drain, _keep_ms(claim)]
        if self._clock() < self._paused_until:
            raise Unreachable("Redis did not answer a moment ago")
        await self._ask(SETTLE, keys, arguments)

    def _reseed(self) -> None:
        if not self._seeding:
            self._seeding = True
            log.error("Redis has lost the counts of budgets; reading them from the ledger")
            self._steps.begin(self._seed_from_ledger())

    async def _seed_from_ledger(self) -> None:
        try:
            await self.seed(await self._spent())
        except Unreachable:
            log.error("Redis cannot be given the counts of budgets; the next request with a budget tries again")
        finally:
            self._seeding = False

    async def _ask(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Raises Unreachable, and lets Redis alone for a while then."""
        try:
            answer = await self._batches.ask(script, keys, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._paused_until = self._clock() + PAUSE_SECONDS
            if not self.degraded:
                self.degraded = True
                log.error("limits are kept by this process alone: Redis does not answer", error=type(error).__name__)
            raise Unreachable("Redis does not answer") from error
        if self.degraded:
            self.degraded = False
            log.info("limits are shared again: Redis answers")
        return answer


def _hold(reservation_id: str) -> str:
    return f"{PREFIX}hold:{reservation_id}"


def _keep_ms(claim: Claim) -> int:
    return int(1000 * ((claim.resets_seconds or 0) + WINDOW_KEPT_SECONDS))
