"""Limits that the workers of one gateway share: counted in the supervisor's memory, asked for over the channel.

Two questions for each limited request. A database that all of them write would be asked as often, slower than memory
(EXPERIMENTS.md, 10), and one at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.limits.claim import (
    NEVER_BEGUN,
    Actual,
    Claim,
    Kind,
    LimitStore,
    Refused,
    Reservation,
    Unit,
    Unreachable,
)
from gateway.limits.uninterrupted import Uninterrupted
from gateway.workers.channel import Answering, Channel, Closed

DIED: Actual = {}  # whatever its requests took: not known, so the worst case counts


class AskingStore:
    """A LimitStore, in a worker."""

    degraded = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._steps = Uninterrupted()

    async def reserve(self, claims: Sequence[Claim]) -> Reservation:
        return await self._steps.run(self._reserve(tuple(claims)), self._give_back)

    async def settle(self, reservation: Reservation, actual: Actual) -> None:
        await self._steps.run(self._settle(reservation, actual))

    async def seed(self, spent: Mapping[str, int]) -> None:
        await self._channel.ask("seed", dict(spent))

    async def close(self) -> None:
        await self._steps.close()

    async def _reserve(self, claims: tuple[Claim, ...]) -> Reservation:
        try:
            told = await self._channel.ask("reserve", claims)
        except Closed as error:
            raise Unreachable("the supervisor, which keeps the limits, has ended") from error
        if "refused" in told:
            raise Refused(claims[told["refused"]], told["remaining"], told["retry_after_seconds"])
        return Reservation(told["id"], claims, tuple(told["left"]))

    async def _give_back(self, reservation: Reservation) -> None:
        await self._settle(reservation, NEVER_BEGUN)

    async def _settle(self, reservation: Reservation, actual: Actual) -> None:
        try:
            await self._channel.ask("settle", [reservation.id, {unit.value: used for unit, used in actual.items()}])
        except Closed as error:
            raise Unreachable("the supervisor, which keeps the limits, has ended") from error


class KeptLimits:
    """What the supervisor does for one worker: `answers` are to its questions. *store* is that of all workers."""

    def __init__(self, store: LimitStore) -> None:
        self._store = store
        self._held: dict[str, Reservation] = {}

    @property
    def answers(self) -> dict[str, Answering]:
        return {"reserve": self._reserve, "settle": self._settle, "seed": self._store.seed}

    async def worker_died(self) -> None:
        """Nobody will settle what it had reserved."""
        for reservation in self._held.values():
            await self._store.settle(reservation, DIED)
        self._held.clear()

    async def _reserve(self, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        claims = [Claim(**{**row, "kind": Kind(row["kind"]), "unit": Unit(row["unit"])}) for row in told]
        try:
            made = await self._store.reserve(claims)
        except Refused as refused:
            return {
                "refused": claims.index(refused.claim),
                "remaining": refused.remaining,
                "retry_after_seconds": refused.retry_after_seconds,
            }
        self._held[made.id] = made
        return {"id": made.id, "left": made.left}

    async def _settle(self, told: tuple[str, Mapping[str, int | None]]) -> None:
        """What another worker reserved is settled all the same."""
        id, actual = told
        reservation = self._held.pop(id, None) or Reservation(id, (), ())
        await self._store.settle(reservation, {Unit(unit): amount for unit, amount in actual.items()})
