"""Whether a replica may be called, judged by how its last calls went. Plain arithmetic: the caller brings the time."""

from dataclasses import dataclass
from enum import StrEnum

FAILURES_IN_A_ROW = 5  # Envoy's consecutive_5xx: a replica that fails only now and then gets there rarely
WINDOW_SECONDS = 10.0  # over which the share of failures is taken
WINDOW_MINIMUM_CALLS = 20  # fewer say little about a share
WINDOW_FAILURE_SHARE = 0.5  # calls are worth making while most succeed
FIRST_OPEN_SECONDS = 2.0  # a server that crashed is back in about that time
LONGEST_OPEN_SECONDS = 20.0  # doubled until here, so that a replica that is back is found within 30 s


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    """Closed, every call may pass; open, none before `until`; then one passes, half-open, and decides.

    A call that does not come back is not waited for longer than the breaker was open: then the next one may try.
    """

    state: BreakerState = BreakerState.CLOSED
    until: float = 0.0
    opened_total: int = 0
    _open_seconds: float = 0.0
    _failures_in_a_row: int = 0
    _window_end: float = 0.0
    _window_calls: int = 0
    _window_failures: int = 0

    def admits(self, now: float) -> bool:
        return self.state is BreakerState.CLOSED or now >= self.until

    def let_in(self, now: float) -> None:
        """A call that was admitted begins; unless closed, it is the one that decides."""
        if self.state is not BreakerState.CLOSED:
            self.state = BreakerState.HALF_OPEN
            self.until = now + self._open_seconds

    def success(self) -> None:
        self._failures_in_a_row = 0
        self._window_calls += 1
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.CLOSED
            self._open_seconds = self._window_end = 0.0

    def failure(self, now: float) -> None:
        if self.state is BreakerState.OPEN:
            return  # of a call begun before it opened
        if self.state is BreakerState.HALF_OPEN or self._too_many(now):
            self._open(now)

    def abandoned(self, now: float) -> None:
        """A call ended without saying anything about the replica: if it was to decide, the next one does at once."""
        if self.state is BreakerState.HALF_OPEN:
            self.until = now

    def _too_many(self, now: float) -> bool:
        if now >= self._window_end:
            self._window_end = now + WINDOW_SECONDS
            self._window_calls = self._window_failures = 0
        self._failures_in_a_row += 1
        self._window_calls += 1
        self._window_failures += 1
        enough = self._window_calls >= WINDOW_MINIMUM_CALLS
        return self._failures_in_a_row >= FAILURES_IN_A_ROW or (
            enough and self._window_failures >= WINDOW_FAILURE_SHARE * self._window_calls
        )

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self.opened_total += 1
        self._open_seconds = min(max(2 * self._open_seconds, FIRST_OPEN_SECONDS), LONGEST_OPEN_SECONDS)
        self.until = now + self._open_seconds
        self._failures_in_a_row = 0
