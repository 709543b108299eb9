"""A process that keeps a ledger under load until it is killed, and says what it believes to be safe.

`python -m tests.gateway.ledger.victim DATABASE_URL JOURNAL_DIR`; a line each on standard output: `begun ID` or
`ended ID`.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import structlog

from gateway.ledger import journal
from gateway.ledger.charge import Charge, Outcome
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger

CLIENTS = 16
SEGMENT_BYTES = 20_000  # so that many segments come and go before the kill


async def requests(ledger: Ledger) -> None:
    while True:
        lost = Charge(
            id=f"req_{uuid4().hex}",
            at=datetime.now(UTC),
            outcome=Outcome.LOST,
            status=None,
            code=None,
            streamed=True,
            attempts=1,
            total_seconds=0.001,
            model="large",
        )
        ledger.intend(lost)
        os.write(sys.stdout.fileno(), f"begun {lost.id}\n".encode())
        await asyncio.sleep(0)
        ledger.record(lost._replace(outcome=Outcome.OK, status=200, prompt_tokens=7))
        os.write(sys.stdout.fileno(), f"ended {lost.id}\n".encode())
        await asyncio.sleep(0)


async def main(url: str, journal_dir: Path) -> None:
    ledger = Ledger(open_database(url), journal_dir)
    await asyncio.gather(*(requests(ledger) for _ in range(CLIENTS)))


if __name__ == "__main__":
    journal.SEGMENT_BYTES = SEGMENT_BYTES
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
