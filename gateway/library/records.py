"""The prompt library's records as values: what was read of the database at one epoch, and who did what. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from prompts.library import Library, Version
from prompts.receipt import Receipt
from prompts.suite import Suite
from router.canary import Canary, Stage

Origin = Literal["file", "api", "import", "generated", "optimised", "draft"]
DRAFTS: frozenset[Origin] = frozenset({"generated", "optimised", "draft"})  # nobody's edit of the text that is in force


@dataclass(frozen=True, slots=True)
class Who:
    """Who does something: a name for the log, and the roles that a policy of labels may ask for."""

    name: str
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Override:
    """A shut gate is passed: *role*, which the label's policy names, answers for it until *until* (with a zone)."""

    role: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Saved:
    """A version and where it came from. `parent`: the number it was made from. `created_at` is UTC."""

    version: Version
    origin: Origin
    author: str
    message: str
    parent: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """One line of a label's log. `came_from`: None when it was new. `failing`: what an override went past, as JSON."""

    prompt: str
    label: str
    came_from: int | None
    went_to: int
    excluded: frozenset[str]
    by: str
    message: str
    at: datetime
    override: Override | None = None
    failing: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Pointed:
    """Where a label points, and the tiers that the version was not let through for."""

    number: int
    excluded: frozenset[str]


@dataclass(frozen=True, slots=True)
class Trial:
    """A label's canary: version *number* is tried on *tier* with a share of the requests of *label*, which stays where
    it is meanwhile. `builds`: those that serve the tier, of which its outcomes are; under others it rests, and one may
    begin anew. `excluded`: tiers that the version is never sent to. `by`: who has begun it, at `began_at` (UTC).
    `revision`: how often it was changed.
    """

    prompt: str
    label: str
    number: int
    tier: str
    builds: tuple[str, ...]
    excluded: frozenset[str]
    by: str
    began_at: datetime
    canary: Canary
    revision: int = 1

    @property
    def name(self) -> str:
        """Of the version."""
        return f"{self.prompt}@{self.number}"

    @property
    def runs(self) -> bool:
        return self.canary.stage is Stage.WIDENING


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that serving goes by. By prompt: the suite that is asked now, receipts that it may go by, until when
    labels are there by an override, and the last canary of each label.
    """

    library: Library = field(default_factory=Library)
    epoch: int = 0
    suites: Mapping[str, Suite] = field(default_factory=dict)
    receipts: Mapping[str, tuple[Receipt, ...]] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    trials: Mapping[str, Mapping[str, Trial]] = field(default_factory=dict)
