"""A reply that is closed tells those who wait for that, once, and holds on to none of them."""

import gc
import weakref

import pytest

from models.engine import Whole

pytestmark = pytest.mark.anyio


async def _closed(told: list[bool]) -> "weakref.ref[Whole]":
    reply = Whole(b"{}", None, None)
    reply.when_closed(lambda: told.append(reply.usage is None))
    await reply.close()
    await reply.close()
    return weakref.ref(reply)


async def test_a_closed_reply_is_freed_at_once_although_who_waited_for_it_knows_it() -> None:
    """Else each request's body would stay until the garbage is looked through, which is seldom."""
    told: list[bool] = []
    gc.disable()
    try:
        assert (await _closed(told))() is None
    finally:
        gc.enable()
    assert told == [True]
