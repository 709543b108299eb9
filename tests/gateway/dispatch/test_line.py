"""Whose turn it is."""

import asyncio
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.line import EVERY_NTH_TURN, Line, Waiter
from gateway.dispatch.replicas import Replica
from models.engine import Call
from tests.gateway.dispatch.clock import JumpingLoop

CALL = Call({})
LOOP = JumpingLoop()
LOOP.close()  # futures need one to belong to; nothing runs in it


def waiter(priority: int, arrival: int) -> Waiter:
    place: asyncio.Future[Replica] = asyncio.Future(loop=LOOP)
    return Waiter(priority, arrival, CALL, place)


@given(st.lists(st.integers(-3, 3), max_size=EVERY_NTH_TURN - 1))
def test_smaller_priorities_go_first_then_who_came_first(priorities: list[int]) -> None:
    line = Line()
    waiters = [waiter(priority, arrival) for arrival, priority in enumerate(priorities)]
    for one in waiters:
        line.join(one)
    assert [line.next() for _ in waiters] == sorted(waiters, key=lambda w: (w.priority, w.arrival))


@given(st.lists(st.one_of(st.none(), st.integers(-2, 2)), max_size=200))
def test_nobody_starves(steps: list[int | None]) -> None:
    """A number joins with that priority, None is a turn; then more urgent calls come for ever."""
    line, turns, arrivals = Line(), 0, count()
    latest: dict[int, int] = {}  # by arrival: the turn at which it must have been served
    for step in [*steps, *[-9, None] * EVERY_NTH_TURN * 200]:
        if step is not None:
            one = waiter(step, next(arrivals))
            latest[one.arrival] = turns + EVERY_NTH_TURN * (len(line) + 1)
            line.join(one)
        elif len(line):
            turns += 1
            served = line.next()
            assert turns <= latest.pop(served.arrival)
        assert all(turns < turn for turn in latest.values())


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.data())
def test_who_leaves_is_gone_and_the_others_are_not(priorities: list[int], data: st.DataObject) -> None:
    line = Line()
    waiters = [waiter(priority, arrival) for arrival, priority in enumerate(priorities)]
    for one in waiters:
        line.join(one)
    leaver = data.draw(st.sampled_from(waiters))
    line.leave(leaver)
    line.leave(leaver)
    assert set(map(id, line)) == set(map(id, waiters)) - {id(leaver)}
