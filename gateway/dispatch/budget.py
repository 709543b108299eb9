"""How much work beyond one engine call per client call is allowed. Plain arithmetic."""

from dataclasses import dataclass

EXTRA_SHARE = 0.2  # of the calls: an engine in trouble gets at most 1.2 times the traffic
EXTRA_MINIMUM = 3.0  # saved up even where few calls are active; both are Envoy's retry_budget defaults


@dataclass(slots=True)
class Budget:
    """Each client call earns a fifth of an extra engine call (a retry or a hedge).

    Envoy bounds the extra calls under way by the active ones, which lets calls that come one after another be repeated
    each time. Earning bounds their sum as well: never more than EXTRA_SHARE of all calls, and EXTRA_MINIMUM once.
    """

    saved: float = EXTRA_MINIMUM

    def earn(self) -> None:
        self.saved += EXTRA_SHARE

    def spend(self, active: int) -> bool:
        """Whether one more extra call may be made while *active* calls wait or are being answered."""
        self.saved = min(self.saved, max(EXTRA_MINIMUM, EXTRA_SHARE * active))
        if self.saved < 1:
            return False
        self.saved -= 1
        return True
