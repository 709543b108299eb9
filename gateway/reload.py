"""Changing the settings of a running gateway: on SIGHUP, when a file changes, when somebody asks. Knows when to load
and what to do with a mistake; not what a runtime is made of.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import structlog

from gateway.served import served_catalog
from gateway.settings import Settings, SettingsError, find_config, load_settings
from models.catalog import CatalogError

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0  # two calls of stat; an operator who saved a file looks at the log for longer
UNSETTLED_POLLS = 10  # a file written anew every second is read all the same, once in ten

# Bound to a socket, a folder, a database or a process, or read once at the start.
NEED_RESTART = (
    "host",
    "port",
    "data_dir",
    "database_url",
    "workers",
    "batch_parallel",
    "shutdown_seconds",
    "log_level",
)

Built = TypeVar("Built")
Stamp = tuple[int, int, int] | None  # of one file; None when it is not there


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of one reload. `waiting`: settings that changed and take effect at the next start only."""

    result: Literal["ok", "refused"]
    reason: str
    error: str | None = None
    waiting: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        return f"{', '.join(self.waiting)}: takes effect at the next start" if self.waiting else None


class Reloads(Protocol):
    """Whoever reads the settings anew."""

    async def reload(self, reason: str) -> Reloaded:
        """Never raises for a mistake in the settings."""

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Reload whenever there is a reason to, until the end of the block."""


class Reloader(Generic[Built]):
    """One reload at a time. Whoever asks while one runs gets the next, and all who ask meanwhile get the same one.

    `build` makes what the new settings describe, or raises and leaves nothing behind; `swap` puts it in the place of
    the old one. Both are awaited on the event loop; files are read and checked in a thread. `load` and `tick` are for
    tests. `count` is told the result of each reload.
    """

    def __init__(
        self,
        settings: Settings,
        build: Callable[[Settings], Awaitable[Built]],
        swap: Callable[[Built], Awaitable[None]],
        *,
        count: Callable[[str], object] = lambda result: None,
        load: Callable[..., Settings] = load_settings,
        tick: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(POLL_SECONDS),
    ) -> None:
        self.settings = settings
        self.last: Reloaded | None = None
        self._build = build
        self._swap = swap
        self._count = count
        self._load = load
        self._tick = tick
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[Reloaded] | None = None
        self._running: asyncio.Task[Reloaded] | None = None
        self._seen = self._look(find_config(settings.config), settings.catalog)

    @property
    def last_error(self) -> str | None:
        """Why the last reload was refused; None when it was not."""
        return self.last.error if self.last else None

    async def reload(self, reason: str) -> Reloaded:
        """Load, check, build and swap. Never raises for a mistake in the files: the old settings keep serving."""
        return await asyncio.shield(self._ask(reason))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Reload on SIGHUP and when a file changes, until the end of the block."""
        loop = asyncio.get_running_loop()
        signals = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
        if signals:  # nowhere else may handlers be set
            loop.add_signal_handler(signal.SIGHUP, self._ask, "SIGHUP")
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            if signals:
                loop.remove_signal_handler(signal.SIGHUP)
            tasks = [task for task in (watch, self._next, self._running) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, reason: str) -> asyncio.Task[Reloaded]:
        if self._next is None:
            self._next = asyncio.create_task(self._take_turn(reason))
        return self._next

    async def _take_turn(self, reason: str) -> Reloaded:
        async with self._lock:
            self._running, self._next = self._next, None  # who asks from now on wants a later look at the files
            self.last = done = await self._once(reason)
            self._count(done.result)
        return done

    async def _once(self, reason: str) -> Reloaded:
        try:
            settings = await asyncio.to_thread(self._read)
            waiting = tuple(name for name in NEED_RESTART if getattr(settings, name) != getattr(self.settings, name))
            settings = settings.model_copy(update={name: getattr(self.settings, name) for name in waiting})
            await self._swap(await self._build(settings))
        except (SettingsError, CatalogError) as error:
            log.error("reload refused, the old settings keep serving", reason=reason, error=str(error))
            return Reloaded("refused", reason, str(error))
        except Exception as error:  # whatever it is, what serves now keeps serving
            log.exception("reload failed, the old settings keep serving", reason=reason)
            return Reloaded("refused", reason, f"{type(error).__name__}: {error}")
        self.settings = settings
        done = Reloaded("ok", reason, waiting=waiting)
        log.info("reloaded", reason=reason, **({"warning": done.warning} if waiting else {}))
        return done

    def _read(self) -> Settings:
        """Everything that a mistake can be found in before anything is built. Runs in a thread.

        A file that was read once is read again: its absence is a mistake, not a wish for the defaults.
        """
        config = find_config(self.settings.config)
        self._seen = self._look(config, self.settings.catalog)
        settings = self._load(config=config) if config else self._load()
        # Before it is read, so that a catalogue which is refused now is noticed when it is mended.
        self._seen = self._look(settings.catalog) | self._seen
        served_catalog(settings)
        return settings

    async def _watch(self) -> None:
        """Reload when files have changed and stand still, so that nobody's half-written file is read."""
        before, unsettled = self._seen, 0
        while True:
            await self._tick()
            now = await asyncio.to_thread(self._look, find_config(self.settings.config), *self._seen)
            unsettled = unsettled + 1 if now != self._seen else 0
            if unsettled and (now == before or unsettled >= UNSETTLED_POLLS):
                await self.reload("file changed")
                unsettled = 0
            before = now

    @staticmethod
    def _look(*paths: Path | None) -> dict[Path, Stamp]:
        """What the files look like from outside."""
        return {path: _stamp(path) for path in paths if path is not None}


def _stamp(path: Path) -> Stamp:
    """Changes when *path* is written, replaced, or made to point elsewhere."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
