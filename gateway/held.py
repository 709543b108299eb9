"""What the guard found out about a request, for whoever answers it. Types only."""

from dataclasses import dataclass

from starlette.types import Scope

from gateway.keys import Caller
from gateway.limits.policy import Admission, actual_of
from gateway.meter import Tab
from gateway.runtime import Runtime

STATE = "pointsman"  # where a request's Held is in its ASGI scope


@dataclass(slots=True)
class Held:
    """`headers` by name in lower case; `tab` is None on paths that are not charged; `priority` as in `Call`."""

    request_id: str
    path: str
    runtime: Runtime
    caller: Caller | None
    tab: Tab | None
    headers: dict[bytes, bytes]
    priority: int = 0
    admission: Admission | None = None  # what was reserved of somebody's limits

    async def settle(self) -> None:
        """Give back what was reserved and not used; the tab must be closed. A second time does nothing."""
        admission, charge = self.admission, self.charged.charge
        if admission is not None and charge is not None:
            self.admission = None
            await self.runtime.limits.settle(admission.reservation, actual_of(charge))

    @property
    def known_caller(self) -> Caller:
        assert self.caller is not None, "the guard lets nobody in without a key but to the open paths"
        return self.caller

    @property
    def caller_id(self) -> str:
        """Whose things may be read here: those of this key only."""
        return self.known_caller.id

    @property
    def charged(self) -> Tab:
        assert self.tab is not None, "the guard opens a tab for every charged path"
        return self.tab


def held_of(scope: Scope) -> Held:
    held: Held = scope[STATE]
    return held
