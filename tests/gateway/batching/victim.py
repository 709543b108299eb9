"""A gateway that goes on with the batches of a folder until it is killed; a line on standard output for each call.

`python -m tests.gateway.batching.victim FOLDER`
"""

import asyncio
import os
import sys
from pathlib import Path

import structlog

from models.engine import Call
from models.scripted import Say, Script
from tests.rig import running_rig


def answer(call: Call) -> Script:
    os.write(sys.stdout.fileno(), b"called\n")
    return [Say("x")]


async def main(folder: Path) -> None:
    async with running_rig(folder, large=answer):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(Path(sys.argv[1])))
