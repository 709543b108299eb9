"""The gateway's log: one line of JSON per event on standard error."""

import logging
import os
import sys
from datetime import UTC, datetime

import orjson
import structlog

_request_lines = False  # written straight to standard error; off until `set_up`, so that tests and tools are quiet


def set_up(level_name: str) -> None:
    """Once per process. *level_name*: the least severe line written."""
    global _request_lines
    level = logging.getLevelNamesMapping()[level_name.upper()]
    _request_lines = level <= logging.INFO
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)


def write_request_line(**fields: object) -> None:
    """The line of one request, past the logger: every request pays for it (EXPERIMENTS.md, 8)."""
    if not _request_lines:
        return
    line = orjson.dumps(
        {**fields, "event": "request", "level": "info", "timestamp": datetime.now(UTC)},
        option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z,
    )
    os.write(2, line)  # whole lines, past the buffer of sys.stderr
