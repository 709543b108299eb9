"""What a vLLM server says of itself at /metrics, a few numbers of many: asked seldom, briefly, and in vain unharmed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from models.http import HttpError, Origin

ASK_TIMEOUT_SECONDS = 0.5  # a server that computes a long prompt may be late; a scrape does not wait for it
KEPT_SECONDS = 2.0  # several scrapers, or several processes of ours, are one question
LIMIT_BYTES = 2 << 20  # 100 kB with the histograms of a fresh server

KV_USED = "kv_cache_usage_perc"  # a ratio, whatever its name says
_SAMPLE = re.compile(r"^vllm:(\w+?)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Readings:
    """`kv_used_ratio` of the room for keys and values; `prefix_hit_ratio` of prompt tokens, None before the first."""

    running: float
    waiting: float
    kv_used_ratio: float
    prefix_hit_ratio: float | None


def readings_of(text: str) -> Readings | None:
    """Of what /metrics says, over all engines of the server; None where it lacks them."""
    sums: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            return None
    try:
        running, waiting, used = (sums[name] for name in ("num_requests_running", "num_requests_waiting", KV_USED))
    except KeyError:
        return None
    asked, found = sums.get("prefix_cache_queries_total", 0.0), sums.get("prefix_cache_hits_total", 0.0)
    return Readings(running, waiting, used, found / asked if asked else None)


class Reader:
    """Asks the server at *address*; close it."""

    def __init__(self, address: str, clock: Callable[[], float] = monotonic) -> None:
        self._origin = Origin(address, connect_timeout_seconds=ASK_TIMEOUT_SECONDS)
        self._clock = clock
        self._asked_at = -KEPT_SECONDS
        self._known: Readings | None = None

    async def read(self) -> Readings | None:
        """None where the server has not answered in time."""
        now = self._clock()
        if now - self._asked_at >= KEPT_SECONDS:
            self._asked_at = now
            self._known = await self._ask()
        return self._known

    async def close(self) -> None:
        await self._origin.close()

    async def _ask(self) -> Readings | None:
        try:
            response = await self._origin.request("GET", "/metrics", timeout_seconds=ASK_TIMEOUT_SECONDS)
            try:
                text = await response.read_all(LIMIT_BYTES, ASK_TIMEOUT_SECONDS)
            finally:
                response.close()
        except HttpError:
            return None
        return readings_of(text.decode(errors="replace")) if response.status == 200 else None
