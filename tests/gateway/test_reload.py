"""Reloading: what is right takes effect whole, what is wrong changes nothing, and many wishes make few reloads."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.reload import NEED_RESTART, UNSETTLED_POLLS, Reloader
from gateway.settings import Settings, load_settings

pytestmark = pytest.mark.anyio

FILE = """
port: 8080
bar: "0.8"
models:
  - {name: small, engine: scripted, tier: 0, context_tokens: 1000}
"""


class Gateway:
    """What a reload acts on. `building` holds a build back until it is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.built: list[Settings] = []
        self.serving: list[Settings] = []
        self.results: list[str] = []
        self.building = asyncio.Event()
        self.building.set()
        self.broken: Exception | None = None
        self.ticks: asyncio.Queue[None] = asyncio.Queue()
        self.polled = asyncio.Semaphore(0)
        self.swapped = asyncio.Semaphore(0)
        self.reloader = Reloader(
            load_settings(config=path), self.build, self.swap, count=self.results.append, tick=self.tick
        )

    async def build(self, settings: Settings) -> Settings:
        self.built.append(settings)
        await self.building.wait()
        if self.broken:
            raise self.broken
        return settings

    async def swap(self, built: Settings) -> None:
        self.serving.append(built)
        self.swapped.release()

    async def tick(self) -> None:
        self.polled.release()
        await self.ticks.get()

    async def poll(self) -> None:
        """Let one poll go by, with the reload it may cause."""
        self.ticks.put_nowait(None)
        await self.polled.acquire()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with self.reloader.watching():
            await self.polled.acquire()
            yield

    def write(self, text: str) -> None:
        """As editors do: a new file in the place of the old one."""
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.path)


@pytest.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"POINTSMAN_{name.upper()}", raising=False)
    path = tmp_path / "pointsman.yaml"
    path.write_text(FILE, encoding="utf-8")
    return Gateway(path)


async def test_a_reload_serves_what_the_file_says_now(gateway: Gateway) -> None:
    gateway.write(FILE.replace("0.8", "0.9"))
    done = await gateway.reloader.reload("asked")
    assert (done.result, done.reason, done.error, done.warning) == ("ok", "asked", None, None)
    assert [settings.bar for settings in gateway.serving] == ["0.9"]
    assert gateway.reloader.settings is gateway.serving[0]
    assert gateway.results == ["ok"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FILE.replace("0.8", "9"), ":3: bar: '9': "),
        (FILE.replace("tier: 0", "tier: -1"), ":5: models.0.tier: -1: must be 0 or more"),
        (FILE + "aliases: {gpt: nobody}", ":6: aliases.gpt: no model nobody"),
        (FILE + "catalog: nowhere.yaml\naliases: {gpt: elsewhere}", "nowhere.yaml: no such file"),
        ("port: [", "not valid YAML"),
    ],
)
async def test_a_mistake_is_refused_whole_and_told(gateway: Gateway, text: str, told: str) -> None:
    gateway.write(text)
    before = gateway.reloader.settings
    done = await gateway.reloader.reload("asked")
    assert done.result == "refused"
    assert told in (done.error or "")
    assert gateway.reloader.last_error == done.error
    assert (gateway.built, gateway.serving, gateway.results) == ([], [], ["refused"])
    assert gateway.reloader.settings is before


async def test_a_file_that_is_gone_is_a_mistake_and_not_a_wish_for_the_defaults(gateway: Gateway) -> None:
    gateway.path.unlink()
    done = await gateway.reloader.reload("asked")
    assert "no such file" in (done.error or "")
    assert gateway.serving == []


async def test_what_cannot_be_built_is_refused_and_the_next_reload_may_succeed(gateway: Gateway) -> None:
    gateway.broken = RuntimeError("no memory")
    assert (await gateway.reloader.reload("asked")).error == "RuntimeError: no memory"
    gateway.broken = None
    assert (await gateway.reloader.reload("asked")).result == "ok"
    assert gateway.results == ["refused", "ok"]
    assert gateway.reloader.last_error is None


async def test_what_needs_a_restart_is_named_and_the_rest_takes_effect(gateway: Gateway) -> None:
    gateway.write(FILE.replace("8080", "9090").replace("0.8", "0.9") + "database_url: sqlite:///other.db\nworkers: 2\n")
    done = await gateway.reloader.reload("asked")
    assert done.waiting == ("port", "database_url", "workers")
    assert done.warning == "port, database_url, workers: takes effect at the next start"
    [serving] = gateway.serving
    assert (serving.port, serving.database_url, serving.workers, serving.bar) == (8080, None, 1, "0.9")


def test_what_needs_a_restart_are_settings() -> None:
    assert {*NEED_RESTART} <= {*Settings.model_fields}


async def test_reloads_follow_each_other_and_a_storm_of_wishes_is_one(gateway: Gateway) -> None:
    gateway.building.clear()
    first = asyncio.create_task(gateway.reloader.reload("first"))
    async with asyncio.timeout(10):
        while not gateway.built:  # noqa: ASYNC110  # the first one is at work from here on
            await asyncio.sleep(0)
    gateway.write(FILE.replace("0.8", "0.9"))
    storm = [asyncio.create_task(gateway.reloader.reload("storm")) for _ in range(100)]
    for _ in range(5):  # time enough for the storm to be at work too, if it were let
        await asyncio.to_thread(load_settings, config=gateway.path)
    assert len(gateway.built) == 1
    gateway.building.set()
    await asyncio.gather(first, *storm)
    assert [settings.bar for settings in gateway.serving] == ["0.8", "0.9"]
    assert len({id(task.result()) for task in storm}) == 1


async def test_whoever_stops_waiting_does_not_stop_the_reload(gateway: Gateway) -> None:
    gateway.building.clear()
    impatient = asyncio.create_task(gateway.reloader.reload("asked"))
    await asyncio.sleep(0)
    impatient.cancel()
    gateway.building.set()
    await gateway.reloader.reload("asked too")
    assert gateway.results


async def test_a_changed_file_is_read_once_it_stands_still(gateway: Gateway) -> None:
    async with gateway.watched():
        await gateway.poll()
        assert gateway.results == []
        gateway.write(FILE.replace("0.8", "0.85"))
        await gateway.poll()
        gateway.write(FILE.replace("0.8", "0.875"))
        await gateway.poll()
        assert gateway.results == []
        await gateway.poll()
        assert [settings.bar for settings in gateway.serving] == ["0.875"]
        await gateway.poll()
        await gateway.poll()
        assert gateway.results == ["ok"]


async def test_a_file_that_never_stands_still_is_read_all_the_same(gateway: Gateway) -> None:
    async with gateway.watched():
        for turn in range(UNSETTLED_POLLS):
            gateway.write(FILE + "#" * turn + "#\n")
            await gateway.poll()
        assert gateway.results == ["ok"]


async def test_a_refused_file_is_not_tried_again_until_it_changes(gateway: Gateway) -> None:
    async with gateway.watched():
        gateway.write("port: no")
        for _ in range(5):
            await gateway.poll()
        assert gateway.results == ["refused"]
        gateway.write(FILE)
        for _ in range(5):
            await gateway.poll()
        assert gateway.results == ["refused", "ok"]


async def test_a_catalogue_that_was_refused_is_noticed_when_it_is_mended(gateway: Gateway) -> None:
    catalog = gateway.path.with_name("catalog.yaml")
    catalog.write_text("models: []", encoding="utf-8")
    gateway.write("catalog: catalog.yaml\nmodels: all\n")
    async with gateway.watched():
        await gateway.poll()
        await gateway.poll()
        assert gateway.results == ["refused"]
        catalog.write_text(FILE[FILE.index("models") :], encoding="utf-8")
        await gateway.poll()
        await gateway.poll()
        assert gateway.results == ["refused", "ok"]


async def test_sighup_reloads(gateway: Gateway) -> None:
    async with gateway.watched(), asyncio.timeout(10):
        os.kill(os.getpid(), signal.SIGHUP)
        await gateway.swapped.acquire()
    assert [done.bar for done in gateway.serving] == ["0.8"]


async def test_the_end_of_watching_ends_a_reload_that_hangs(gateway: Gateway) -> None:
    gateway.building.clear()
    async with gateway.watched():
        hanging = asyncio.create_task(gateway.reloader.reload("asked"))
        async with asyncio.timeout(10):
            while not gateway.built:  # noqa: ASYNC110  # it is at work from here on
                await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert gateway.serving == []


async def test_a_hundred_reloads_good_and_bad_leave_the_last_good_one(gateway: Gateway) -> None:
    for turn in range(100):
        gateway.write(FILE.replace("0.8", f"0.{turn + 100}") if turn % 2 else "bar: nonsense")
        await gateway.reloader.reload("asked")
    assert gateway.results == ["refused", "ok"] * 50
    assert gateway.reloader.settings.bar == "0.199"
