"""What becomes of limits when a worker dies, or the supervisor; the rest is `tests.gateway.limits.test_contract`."""

import socket

import pytest

from gateway.limits.claim import Refused, Unreachable
from gateway.limits.memory import MemoryStore
from gateway.workers.channel import Channel
from gateway.workers.limits import AskingStore, KeptLimits
from tests.gateway.limits.benches import answers, money

pytestmark = pytest.mark.anyio


async def test_what_a_dead_worker_had_reserved_counts_as_the_worst_and_its_places_are_free() -> None:
    memory = MemoryStore()
    dead, other = KeptLimits(memory), KeptLimits(memory)
    [one, another] = [await Channel.open(end, {}) for end in socket.socketpair()]
    another.answers.update(dead.answers)
    await AskingStore(one).reserve([money(40, 100), answers(1)])
    with pytest.raises(Refused):
        await memory.reserve([answers(1)])

    await other.worker_died()
    with pytest.raises(Refused):
        await memory.reserve([answers(1)])
    await dead.worker_died()
    assert (await memory.reserve([money(60, 100), answers(1)])).left == (0, 0)
    for channel in (one, another):
        await channel.close()


async def test_without_the_supervisor_nothing_is_reserved() -> None:
    [one, another] = [await Channel.open(end, {}) for end in socket.socketpair()]
    await another.close()
    await one.closed.wait()
    with pytest.raises(Unreachable):
        await AskingStore(one).reserve([money(1, 1)])
    await one.close()
