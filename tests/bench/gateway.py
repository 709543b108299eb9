"""The gateway's part: Pointsman and its peers in front of the same mock engine, in turns, in one run.

Rounds are interleaved (every gateway, then every gateway again), so that a noisy neighbour disturbs all alike; what is
shown is the median of the rounds. Pointsman is served as it is to its users: a real key is checked, the ledger is a
SQLite file, metrics and the log are on.
"""

import asyncio
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import orjson

from gateway.cli.compress.resources import family
from gateway.cli.screen import problems
from tests.bench.grid import Cell, Grid
from tests.bench.load import Load, Seen
from tests.bench.measure import cpu_seconds, resident_bytes
from tests.bench.peers import PEERS, Peer, Place
from tests.bench.processes import DidNotStart, free_port, own_program, running
from tests.bench.wire import CHUNKS, MODEL, SPACED_MARK

ROUNDS = 3
POINTSMAN = "Pointsman"
DIRECT = "(direct)"
KEY = "sk-bench-0123456789abcdef0123456789abcdef"  # what a peer asks of its callers
LOAD_LINE_LIMIT_BYTES = 1024 * 1024
WARM_UP_REQUESTS = 50
AFTER_LOAD_SECONDS = 0.05  # a gateway may still write its ledger and log when the last answer is here

CATALOG = """
models:
  - name: small
    engine: openai
    tier: 0
    context_tokens: 32768
    base_url: http://127.0.0.1:{port}/v1
    parallel: 1024
    queue: 1024
    price: {{input_usd: "0.1", output_usd: "0.2"}}
  - name: {model}
    engine: openai
    tier: 1
    context_tokens: 32768
    base_url: http://127.0.0.1:{port}/v1
    parallel: 1024
    queue: 1024
    price: {{input_usd: "1", output_usd: "2"}}
"""
TASK = (  # the fixed part of a template with outcomes that decide, letter for letter
    "Task: headlines.\nDoes this news headline say that the price of gold goes up, goes down, stays neutral, "
    "or none of these? Answer with one word: up, down, neutral or none."
)
OPEN_TASK = (  # and of one whose outcomes leave it open, so that the prompt is looked at
    "Task: object counting.\nAnswer the question. End with a line 'Answer: ...' giving only the answer."
)
BAR = "safe-0.22"  # under the default one the looks of a prompt prove nothing, and are not even looked at
HEADLINE = "Headline: Gold edges higher as dollar slips\nAnswer:"
LONG_CHARACTERS = 32 * 1024


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request looks like, but for the model's name. `task`: its system message, that of a known template."""

    task: str = TASK
    long: bool = False
    streamed: bool = False
    spaced: bool = False

    def body(self, model: str) -> str:
        text = f"{SPACED_MARK} {HEADLINE}" if self.spaced else HEADLINE
        text = f"{'A line of context. ' * (LONG_CHARACTERS // 19)}{text}" if self.long else text
        messages = [{"role": "system", "content": self.task}]
        stream = {"stream": True, "stream_options": {"include_usage": True}} if self.streamed else {}
        return orjson.dumps(
            {"model": model, "messages": [*messages, {"role": "user", "content": text}], **stream}
        ).decode()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load. Seconds bound how long requests begin; requests bound how many."""

    name: str
    ask: Ask
    clients: int
    seconds: float
    requests: int = 100_000
    rate: float | None = None
    scraped: bool = False

    def load(self, target: "Target") -> Load:
        ask = target.ask if target.ask and self.ask == SHORT else self.ask
        return Load(
            port=target.port,
            body=ask.body(target.model),
            key=target.key,
            clients=self.clients,
            requests=self.requests,
            seconds=self.seconds,
            rate=self.rate,
            streamed=ask.streamed,
            scraped=self.scraped,
        )


SHORT = Ask()
AT_ONCE = Ask(streamed=True)
SPACED = Ask(streamed=True, spaced=True)

# A stream lasts 0.32 s, so 32 run at a time. They begin one after another and out of step with the chunks: those that
# keep step wake a gateway once for all of them.
SPACED_RATE = 97.0
CLIENTS_32 = Scenario("32 clients", SHORT, clients=32, seconds=0.6)
CLIENTS_256 = Scenario("256 clients", SHORT, clients=256, seconds=0.6)
PACED_50 = Scenario("50/s", SHORT, clients=256, rate=50, seconds=1.2)
PACED_200 = Scenario("200/s", SHORT, clients=256, rate=200, seconds=1.0)
LONG = Scenario("32 KB prompt", Ask(long=True), clients=32, seconds=0.6)
STREAMS = Scenario("stream at once", AT_ONCE, clients=32, seconds=0.6)
SPACED_STREAMS = Scenario("stream, 5 ms apart", SPACED, clients=256, rate=SPACED_RATE, seconds=2, requests=72)
SCRAPED_STREAMS = replace(SPACED_STREAMS, name="scraped", scraped=True)

FOR_ALL = (CLIENTS_32, CLIENTS_256, PACED_50, PACED_200, LONG, STREAMS, SPACED_STREAMS)


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway that runs, and what is asked of it. `ask` replaces the short request; `slow`: one round says enough."""

    name: str
    port: int
    model: str = MODEL
    key: str = KEY
    process_id: int | None = None
    ready_seconds: float | None = None
    scenarios: Sequence[Scenario] = FOR_ALL
    ask: Ask | None = None
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """One scenario put on one target, once."""

    seen: Seen
    cpu_seconds: float

    @property
    def cpu_per_thousand(self) -> float | None:
        return 1000 * self.cpu_seconds / self.seen.answered if self.seen.answered else None

    @property
    def per_second(self) -> float:
        return self.seen.answered / self.seen.seconds


@dataclass(frozen=True, slots=True)
class Results:
    """`rounds` by the target's name and the scenario's; `resident` in bytes, after all of them."""

    targets: Sequence[Target]
    rounds: Mapping[tuple[str, str], Sequence[Round]]
    resident: Mapping[str, int]

    def middle(self, target: Target, scenario: Scenario, figure: Callable[[Round], float | None]) -> float | None:
        """The median of the rounds; None when there are none, or none of them was answered."""
        return _middle(figure(one) for one in self.rounds.get((target.name, scenario.name), ()))

    def added(self, target: Target, scenario: Scenario, figure: Callable[[Round], float | None]) -> float | None:
        """How much more than without a gateway in the same round; None where there is no such round, or no gateway."""
        if target.name == DIRECT:
            return None
        pairs = zip(self.rounds.get((target.name, scenario.name), ()), self.rounds[DIRECT, scenario.name], strict=False)
        return _middle(_difference(figure(through), figure(direct)) for through, direct in pairs)


class Generator:
    """The process that puts loads on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def put_on(self, load: Load) -> Seen:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(asdict(load)) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load's process ended; its message is above")
        return Seen(**orjson.loads(line))


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


async def measure_gateways(*, rounds: int = ROUNDS, only: Sequence[str] = ()) -> list[Grid]:
    """Every gateway that is installed; of *only* those peers, when any are named."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="pointsman-bench-")))
        folder.chmod(0o755)  # noqa: ASYNC240  # nginx's worker is another user when its master is root
        generator = await stack.enter_async_context(generating())
        engine_port = free_port()
        engine = own_program("tests.bench.mock_engine", str(engine_port))
        await stack.enter_async_context(
            running(engine, port=engine_port, ready_path="/livez", log=folder / "engine.log", environment={})
        )
        targets = [Target(DIRECT, engine_port), *await _pointsman(stack, folder, engine_port)]
        absent: list[str] = []
        for peer in PEERS:
            if not only or peer.name in only:
                started = await _peer(stack, folder, engine_port, peer)
                (targets if isinstance(started, Target) else absent).append(started)  # type: ignore[arg-type]
        results = await _measure(generator, targets, rounds)
    return [_processor_grid(results, rounds, absent), _time_grid(results), _scrape_grid(results)]


async def _measure(generator: Generator, targets: Sequence[Target], rounds: int) -> Results:
    measured: dict[tuple[str, str], list[Round]] = defaultdict(list)
    for target in targets:
        await generator.put_on(Scenario("", SHORT, clients=8, seconds=5, requests=WARM_UP_REQUESTS).load(target))
    for place in range(rounds):
        for scenario in (*FOR_ALL, SCRAPED_STREAMS):
            for target in targets:
                if scenario in target.scenarios and not (target.slow and place):
                    problems.print(f"round {place + 1} of {rounds}: {scenario.name}, {target.name}", style="dim")
                    measured[target.name, scenario.name].append(await _round(generator, target, scenario))
    resident = {t.name: resident_bytes(family(t.process_id)) for t in targets if t.process_id is not None}
    return Results(targets, measured, resident)


async def _round(generator: Generator, target: Target, scenario: Scenario) -> Round:
    processes = family(target.process_id) if target.process_id is not None else set()
    before = cpu_seconds(processes)
    seen = await generator.put_on(scenario.load(target))
    await asyncio.sleep(AFTER_LOAD_SECONDS)
    spent = cpu_seconds(processes) - before
    if seen.failed:
        problems.print(
            f"{target.name}, {scenario.name}: {seen.failed} of {seen.failed + seen.answered} requests failed "
            f"({'; '.join(seen.problems)})",
            style="red",
            markup=False,
        )
    return Round(seen, spent)


async def _pointsman(stack: AsyncExitStack, folder: Path, engine_port: int) -> list[Target]:
    """One process, asked in three ways: the model named, `auto` where outcomes decide, `auto` where looks must."""
    catalog = folder / "catalog.yaml"
    catalog.write_text(CATALOG.format(port=engine_port, model=MODEL), encoding="utf-8")
    port = free_port()
    environment = {
        "POINTSMAN_CATALOG": str(catalog),
        "POINTSMAN_MODELS": "all",
        "POINTSMAN_DATA_DIR": str(folder / "data"),
        "POINTSMAN_CACHE_DIR": str(folder / "cache"),
        "POINTSMAN_PORT": str(port),
        "POINTSMAN_BAR": BAR,
    }
    making = subprocess.run(  # noqa: ASYNC221  # nothing else runs yet
        own_program("gateway", "keys", "create", "bench"), env=environment, capture_output=True, text=True, check=True
    )
    key = next(line.split()[1] for line in making.stdout.splitlines() if line.startswith("key "))
    started = await stack.enter_async_context(
        running(
            own_program("tests.bench.gateway_server"),
            port=port,
            ready_path="/readyz",
            log=folder / "pointsman.log",
            environment=environment,
        )
    )

    def asked(name: str, model: str, scenarios: Sequence[Scenario], ask: Ask | None = None) -> Target:
        return Target(name, port, model, key, started.process_id, started.ready_seconds, scenarios, ask)

    by_looks = Ask(OPEN_TASK)
    assert (await _decision(port, key, SHORT))["basis"] == "evidence", "the task's outcomes have changed"
    assert "expected difference" in (await _decision(port, key, by_looks))["reason"], "looks cost nothing: choose a bar"
    return [
        asked(POINTSMAN, MODEL, (*FOR_ALL, SCRAPED_STREAMS)),
        asked("- auto by outcomes", "auto", (CLIENTS_32, PACED_200)),
        asked("- auto by looks", "auto", (CLIENTS_32, PACED_200), by_looks),
    ]


async def _decision(port: int, key: str, ask: Ask) -> Mapping[str, str]:
    request = Request(
        f"http://127.0.0.1:{port}/v1/decision",
        data=ask.body("auto").encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with await asyncio.to_thread(urlopen, request) as response:
        decision: Mapping[str, str] = orjson.loads(response.read())
    return decision


async def _peer(stack: AsyncExitStack, folder: Path, engine_port: int, peer: Peer) -> Target | str:
    """The peer, running; or why it is left out."""
    program = peer.find()
    if program is None:
        return f"{peer.name} is not installed: {peer.remedy}"
    own_folder = folder / peer.name
    own_folder.mkdir(mode=0o755)
    place = Place(own_folder, free_port(), engine_port, KEY)
    try:
        started = await stack.enter_async_context(
            running(
                [program, *peer.arguments(place)],
                port=place.port,
                ready_path=peer.ready_path,
                log=own_folder / "output.log",
                environment={"HOME": str(own_folder), **peer.environment},
            )
        )
    except DidNotStart as error:
        return f"{peer.name} did not start: {error}"
    return Target(
        peer.name,
        place.port,
        process_id=started.process_id,
        ready_seconds=started.ready_seconds,
        slow=peer.slow,
    )


@asynccontextmanager
async def generating() -> AsyncIterator[Generator]:
    process = await asyncio.create_subprocess_exec(
        *own_program("tests.bench.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LOAD_LINE_LIMIT_BYTES,
    )
    try:
        yield Generator(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _processor_grid(results: Results, rounds: int, absent: Sequence[str]) -> Grid:
    named = next(target for target in results.targets if target.name == POINTSMAN)
    ours = results.middle(named, CLIENTS_32, lambda r: r.cpu_per_thousand)
    rows: list[list[Cell]] = []
    for target in results.targets:
        if target.name == DIRECT:
            continue
        cpu = [results.middle(target, scenario, lambda r: r.cpu_per_thousand) for scenario in FOR_ALL]
        spaced = cpu[FOR_ALL.index(SPACED_STREAMS)]
        times = cpu[0] / ours if ours and cpu[0] is not None else None
        rows.append([target.name, cpu[0], times, *cpu[1:], None if spaced is None else spaced / CHUNKS])
    first, *others = (scenario.name for scenario in FOR_ALL)
    return Grid(
        f"Gateways: CPU-seconds per 1,000 requests, median of {rounds} interleaved rounds",
        ("gateway", first, f"x {POINTSMAN}", *others, "ms per chunk"),
        rows,
        (
            f"User and system time of all processes. A stream has {CHUNKS} chunks; ms per chunk: those 5 ms apart.",
            "Pointsman checks a key and writes ledger, log and metrics; nginx and haproxy only pass bytes on.",
            *(f"{target.name}: one round only." for target in results.targets if target.slow),
            *(f"Left out: {why}" for why in absent),
        ),
    )


def _time_grid(results: Results) -> Grid:
    rows: list[list[Cell]] = []
    for target in results.targets:
        resident = results.resident.get(target.name)
        rows.append(
            [
                target.name,
                results.middle(target, CLIENTS_32, lambda r: r.per_second),
                results.middle(target, PACED_200, lambda r: r.seen.p50_ms),
                results.middle(target, PACED_200, lambda r: r.seen.p99_ms),
                results.added(target, PACED_200, lambda r: r.seen.p50_ms),
                results.added(target, SPACED_STREAMS, lambda r: r.seen.first_p50_ms),
                results.added(target, SPACED_STREAMS, lambda r: r.seen.first_p99_ms),
                None if resident is None else resident / 1e6,
                target.ready_seconds,
            ]
        )
    return Grid(
        "Gateways: time and memory",
        (
            "gateway",
            "requests/s",
            "p50 ms at 200/s",
            "p99 ms",
            "added p50 ms",
            "added first byte p50 ms",
            "added first byte p99 ms",
            "RSS MB",
            "ready s",
        ),
        rows,
        ("requests/s with 32 clients; first byte of 32 streams at a time. Load and mock engine share the machine.",),
    )


def _scrape_grid(results: Results) -> Grid:
    rows: list[list[Cell]] = []
    for target in results.targets:
        for how, scenario in (("", SPACED_STREAMS), (", scraped ten times a second", SCRAPED_STREAMS)):
            if target.name in (DIRECT, POINTSMAN) and scenario in target.scenarios:
                typical = results.middle(target, scenario, lambda r: r.seen.stall_p50_ms)
                worst = results.middle(target, scenario, lambda r: r.seen.stall_ms)
                rows.append([f"{target.name}{how}", typical, worst])
    return Grid(
        "Streams beside a monitor: the longest wait between two chunks sent 5 ms apart",
        ("gateway", "in the median stream, ms", "in the worst, ms"),
        rows,
    )
