"""Opens the tracing that the settings describe. Knows settings; OpenTelemetry is imported only when it is wanted."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from gateway.settings import SettingsError
from gateway.tracing.section import TracingSection

if TYPE_CHECKING:
    from gateway.tracing.spans import Tracing

NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


class TracingError(SettingsError):
    """Nothing can be traced here; the message says what to install."""


def check_installed(section: TracingSection) -> None:
    """Raises TracingError where an endpoint is named and the extra is missing."""
    if section.endpoint is not None and not all(map(_is_here, NEEDED)):
        raise TracingError(
            "tracing.endpoint needs the extra: pip install 'pointsman[otel]'; or unset POINTSMAN_TRACING__ENDPOINT"
        )


class TracingOpener:
    """Opens tracings, one after the other as settings are read again; the same settings mean the same one."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._opened: dict[tuple[str, float], Tracing] = {}

    def open(self, section: TracingSection) -> "Tracing | None":
        """None where it is off: no code of it runs then. Raises TracingError."""
        if section.endpoint is None:
            return None
        check_installed(section)
        from gateway.tracing.spans import Tracing

        place = (section.endpoint, section.share)
        if place not in self._opened:
            self._opened[place] = Tracing(section.endpoint, section.share, self._version)
        return self._opened[place]

    def close(self) -> None:
        """Send what waits, for a bounded time. Blocking."""
        for tracing in self._opened.values():
            tracing.close()


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # not even the package that it is in
        return False
