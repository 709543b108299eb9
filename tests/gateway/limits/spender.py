"""A process that spends from a shared budget: `python -m tests.gateway.limits.spender URL SEED [crash]`.

Prints what it settled, in nano-dollars, and how often it was refused.
"""

import asyncio
import os
import random
import sys

from sqlalchemy import create_engine

from gateway.limits.claim import Refused, Unit
from gateway.limits.database import DatabaseStore
from tests.gateway.limits.benches import answers, money

CAP = 2000
TASKS = 16
TURNS = 4


async def spend(url: str, seed: int, crash: bool) -> None:
    dice = random.Random(seed)
    database = create_engine(url)
    store = DatabaseStore(database)
    settled = refused = 0

    async def work() -> None:
        nonlocal settled, refused
        for _ in range(TURNS):
            amount = dice.randrange(1, 50)
            used = dice.randrange(amount + 1)
            try:
                held = await store.reserve([money(amount, CAP), answers(40)])
            except Refused:
                refused += 1
                continue
            if crash and dice.random() < 0.1:
                os._exit(0)
            await store.settle(held, {Unit.NANO_USD: used})
            settled += used

    await asyncio.gather(*(work() for _ in range(TASKS)))
    await store.close()
    database.dispose()
    print(settled, refused)


if __name__ == "__main__":
    asyncio.run(spend(sys.argv[1], int(sys.argv[2]), "crash" in sys.argv))
