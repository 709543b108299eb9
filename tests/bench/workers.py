"""What a second worker is worth: `python -m tests.bench.workers [ROUNDS]`, one gateway with 1, 2, ... workers in turns.

The load and the mock engine share the machine with the gateway: on few cores that, not the gateway, is the end of it,
and the processor time for each request says more than the requests in a second. Then: who gets connections that are
opened at once and kept.
"""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from gateway.cli.compress.resources import family
from gateway.cli.screen import console
from tests.bench.gateway import AFTER_LOAD_SECONDS as SETTLE_SECONDS
from tests.bench.gateway import (
    CATALOG,
    CLIENTS_32,
    CLIENTS_256,
    SHORT,
    WARM_UP_REQUESTS,
    Generator,
    Scenario,
    Target,
    generating,
)
from tests.bench.grid import Cell, Grid
from tests.bench.measure import cpu_seconds, machine
from tests.bench.processes import free_port, own_program, running
from tests.bench.wire import MODEL
from tests.processes import children

ROUNDS = 5
AT_ONCE = (4, 8, 16, 64)  # connections
SPREADS = 12  # each so often
IDLE_SECONDS = 6.0  # after so long the gateway has closed connections that nothing is said on
TAKEN_SECONDS = 0.1  # after so long every worker has its connections, or has given them up
WORKERS = (1, 2)
SCENARIOS = (Scenario("8 clients", SHORT, clients=8, seconds=0.6), CLIENTS_32, CLIENTS_256)


async def measure(rounds: int) -> tuple[Grid, Grid]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="pointsman-bench-")))
        generator = await stack.enter_async_context(generating())
        engine_port = free_port()
        engine = own_program("tests.bench.mock_engine", str(engine_port))
        await stack.enter_async_context(
            running(engine, port=engine_port, ready_path="/livez", log=folder / "engine.log", environment={})
        )
        targets = {count: await _gateway(stack, folder, engine_port, count) for count in WORKERS}
        for target in targets.values():
            await generator.put_on(Scenario("", SHORT, clients=8, seconds=5, requests=WARM_UP_REQUESTS).load(target))
        rows: list[list[Cell]] = []
        for scenario in SCENARIOS:
            seen = [{n: await _round(generator, t, scenario) for n, t in targets.items()} for _ in range(rounds)]
            for count in targets:
                middle = [median(one[count][place] for one in seen) for place in range(4)]
                rows.append([f"{scenario.name}, {count} workers", *middle])
        loads = Grid(
            "Workers",
            ("load", "requests/s", "p99 ms", "CPU ms per 1000", "busiest worker's share, %"),
            rows,
            (f"Median of {rounds} interleaved rounds; load and mock engine share {machine()}.",),
        )
        return loads, await _spread(targets[WORKERS[-1]])


async def _gateway(stack: AsyncExitStack, folder: Path, engine_port: int, workers: int) -> Target:
    own = folder / str(workers)
    own.mkdir()
    (own / "catalog.yaml").write_text(CATALOG.format(port=engine_port, model=MODEL), encoding="utf-8")
    port = free_port()
    environment: Mapping[str, str] = {
        "POINTSMAN_CATALOG": str(own / "catalog.yaml"),
        "POINTSMAN_MODELS": "all",
        "POINTSMAN_DATA_DIR": str(own / "data"),
        "POINTSMAN_PORT": str(port),
        "POINTSMAN_WORKERS": str(workers),
    }
    making = await asyncio.to_thread(
        subprocess.run,
        own_program("gateway", "keys", "create", "bench"),
        env={**environment},
        capture_output=True,
        text=True,
        check=True,
    )
    key = next(line.split()[1] for line in making.stdout.splitlines() if line.startswith("key "))
    started = await stack.enter_async_context(
        running(
            own_program("gateway", "serve"),
            port=port,
            ready_path="/readyz",
            log=own / "output.log",
            environment=environment,
        )
    )
    return Target(str(workers), port, key=key, process_id=started.process_id)


async def _round(generator: Generator, target: Target, scenario: Scenario) -> tuple[float, float, float, float]:
    assert target.process_id is not None
    processes = family(target.process_id)
    serving = children(target.process_id) or {target.process_id}
    before = {process: cpu_seconds({process}) for process in processes}
    seen = await generator.put_on(scenario.load(target))
    await asyncio.sleep(SETTLE_SECONDS)
    assert not seen.failed, seen.problems
    assert seen.p99_ms is not None
    spent = {process: cpu_seconds({process}) - before[process] for process in processes}
    busiest = max(spent[process] for process in serving) / sum(spent[process] for process in serving)
    return seen.answered / seen.seconds, seen.p99_ms, 1e6 * sum(spent.values()) / seen.answered, 100 * busiest


async def _spread(target: Target) -> Grid:
    assert target.process_id is not None
    workers = children(target.process_id)
    await asyncio.sleep(IDLE_SECONDS)
    rows: list[list[Cell]] = []
    for count in AT_ONCE:
        fewest = []
        for _ in range(SPREADS):
            before = {worker: _sockets(worker) for worker in workers}
            opened = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(count)]
            await asyncio.sleep(TAKEN_SECONDS)
            fewest.append(min(_sockets(worker) - before[worker] for worker in workers))
            for _, writer in opened:
                writer.close()
            await asyncio.sleep(TAKEN_SECONDS)
        rows.append([str(count), min(fewest), median(fewest), max(fewest)])
    columns = ("connections opened at once", "fewest at a worker: least", "median", "most")
    return Grid("Shared out", columns, rows, (f"{len(workers)} workers, each row {SPREADS} times.",))


def _sockets(process_id: int) -> int:
    return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{process_id}/fd").iterdir())


if __name__ == "__main__":
    for made in asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)):
        made.show()
    console.print()
