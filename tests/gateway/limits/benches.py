"""Every store of limits on a bench: its time can be moved, and what it counts can be looked at."""

from abc import ABC, abstractmethod
from socket import socketpair
from typing import Self

from redis.asyncio import Redis
from sqlalchemy import Engine, func, select, text, update

from gateway.ledger.tables import limit_counters, limit_holds
from gateway.limits.claim import Claim, Kind, LimitStore, Unit
from gateway.limits.database import DatabaseStore
from gateway.limits.memory import MemoryStore
from gateway.limits.redis import PREFIX, RedisStore, connect
from gateway.workers.channel import Channel
from gateway.workers.limits import AskingStore, KeptLimits

HOUR_MS = 3_600_000


def money(amount: int, cap: int, key: str = "usd:caller:k:2026-11-25", resets_seconds: float = 3600.0) -> Claim:
    return Claim(key, Kind.WINDOW, Unit.NANO_USD, amount, cap, "key k", "day", resets_seconds)


def requests(cap: int, amount: int = 1, key: str = "requests:caller:k") -> Claim:
    return Claim(key, Kind.BUCKET, Unit.REQUESTS, amount, cap, "key k")


def tokens(amount: int, cap: int, key: str = "tokens:caller:k") -> Claim:
    return Claim(key, Kind.BUCKET, Unit.TOKENS, amount, cap, "key k")


def answers(cap: int, key: str = "answers:caller:k") -> Claim:
    return Claim(key, Kind.CONCURRENCY, Unit.ANSWERS, 1, cap, "key k")


class Bench(ABC):
    """`store` and `replica` count the same limits; in memory they are one."""

    store: LimitStore
    replica: LimitStore

    @abstractmethod
    async def advance(self, ms: int) -> None:
        """Let *ms* pass, or set the clock back, without waiting."""

    @abstractmethod
    async def used(self, claim: Claim) -> int:
        """Of the claim's limit, holds included, as of its last change, in units of the counter."""

    @abstractmethod
    async def open(self) -> int:
        """Reservations that were neither settled nor given back."""

    async def close(self) -> None:
        await self.replica.close()
        await self.store.close()


class MemoryBench(Bench):
    def __init__(self) -> None:
        self.now_ms = 10 * HOUR_MS
        self.memory = MemoryStore(lambda: self.now_ms)
        self.store = self.replica = self.memory

    async def advance(self, ms: int) -> None:
        self.now_ms += ms

    async def used(self, claim: Claim) -> int:
        counter = self.memory._counters.get(claim.key)
        return counter.used if counter else 0

    async def open(self) -> int:
        return sum(any(units) for _, units, _ in self.memory._holds.values())


class WorkersBench(MemoryBench):
    """Two workers that ask the process which keeps the limits. Make it with `make`."""

    @classmethod
    async def make(cls) -> Self:
        made = cls()
        made.store, made.replica = AskingStore(await made._asking()), AskingStore(await made._asking())
        return made

    async def _asking(self) -> Channel:
        """A worker's channel, and at its other end the supervisor's."""
        one, other = socketpair()
        self._channels.append(await Channel.open(other, KeptLimits(self.memory).answers))
        self._channels.append(await Channel.open(one, {}))
        return self._channels[-1]

    def __init__(self) -> None:
        super().__init__()
        self._channels: list[Channel] = []

    async def close(self) -> None:
        await super().close()
        for channel in self._channels:
            await channel.close()


class DatabaseBench(Bench):
    def __init__(self, database: Engine) -> None:
        self.database = database
        self.store, self.replica = DatabaseStore(database), DatabaseStore(database)

    async def advance(self, ms: int) -> None:
        counters, holds = limit_counters.c, limit_holds.c
        with self.database.begin() as connection:
            aged = {"at_ms": counters.at_ms - ms, "forget_ms": counters.forget_ms - ms}
            connection.execute(update(limit_counters).values(aged))
            connection.execute(update(limit_holds).values(expires_ms=holds.expires_ms - ms))

    async def used(self, claim: Claim) -> int:
        with self.database.connect() as connection:
            counter = select(limit_counters.c.used).where(limit_counters.c.key == claim.key)
            return connection.execute(counter).scalar() or 0

    async def open(self) -> int:
        with self.database.connect() as connection:
            counted = select(func.count(limit_holds.c.reservation.distinct())).where(limit_holds.c.units > 0)
            return connection.execute(counted).scalar_one()

    async def close(self) -> None:
        await super().close()
        with self.database.begin() as connection:
            for table in ("limit_counters", "limit_holds"):
                connection.execute(text(f"delete from {table}"))  # noqa: S608  # the names above


class RedisBench(Bench):
    """The ledger it may read again from is `spent`."""

    def __init__(self, url: str) -> None:
        self.client: Redis = connect(url)
        self.spent: dict[str, int] = {}
        self.store: RedisStore = RedisStore(connect(url), self._spent)
        self.replica: RedisStore = RedisStore(connect(url), self._spent)

    async def advance(self, ms: int) -> None:
        for unit in ("usd", "requests", "tokens", "answers"):
            for key in await self.client.keys(f"{PREFIX}{unit}:*"):
                await self.client.hincrby(key, "at", -ms)
        for member in await self.client.zrange(f"{PREFIX}holds", 0, -1):
            await self.client.zincrby(f"{PREFIX}holds", -ms, str(member, "ascii"))  # type: ignore[arg-type]  # bytes

    async def used(self, claim: Claim) -> int:
        return int(await self.client.hget(PREFIX + claim.key, "used") or 0)

    async def open(self) -> int:
        holds = [await self.client.hvals(key) for key in await self.client.keys(f"{PREFIX}hold:*")]
        return sum(any(int(units) for units in hold) for hold in holds)

    async def close(self) -> None:
        await super().close()
        await self.client.aclose()

    async def _spent(self) -> dict[str, int]:
        return self.spent
