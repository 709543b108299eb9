"""What the guard found out about a request, for whoever answers it. Types only."""

from dataclasses import dataclass

from starlette.types import Scope

from gateway.keys import Caller
from gateway.meter import Tab
from gateway.runtime import Runtime

STATE = "pointsman"  # where a request's Held is in its ASGI scope


@dataclass(slots=True)
class Held:
    """`headers` by name in lower case; `tab` is None on paths that are not charged."""

    request_id: str
    runtime: Runtime
    caller: Caller | None
    tab: Tab | None
    headers: dict[bytes, bytes]

    @property
    def caller_id(self) -> str:
        """Whose things may be read here: those of this key only."""
        assert self.caller is not None, "the guard lets nobody in without a key but to the open paths"
        return self.caller.id

    @property
    def charged(self) -> Tab:
        assert self.tab is not None, "the guard opens a tab for every charged path"
        return self.tab


def held_of(scope: Scope) -> Held:
    held: Held = scope[STATE]
    return held
