"""One model's engine for as long as a command needs it: its weights fetched, started, ready, and stopped at the end."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gateway.builder import make_engines, until_ready
from gateway.cli.models import fetch
from gateway.settings import Settings
from models.catalog import Catalog, CatalogError, Model
from models.engine import Engine

READY_TIMEOUT_SECONDS = 600.0  # a large file from a slow disk


@asynccontextmanager
async def started(settings: Settings, row: Model) -> AsyncIterator[Engine]:
    """Raises CatalogError where it cannot become ready, StoreError where its weights cannot be had."""
    _log_to_errors()
    await asyncio.to_thread(fetch, settings, row)
    engine = make_engines(Catalog({row.name: row}, {}), settings)[row.name][0]
    await engine.start()
    try:
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                await until_ready(row, engine)
        except TimeoutError as error:
            says = f"{row.name} was not ready after {READY_TIMEOUT_SECONDS:.0f} s: {engine.health().detail}"
            raise CatalogError(says) from error
        yield engine
    finally:
        await engine.stop()


def _log_to_errors() -> None:
    """Engines tell the terminal only what is wrong; results have standard output to themselves."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
