"""Whatever is done through whichever door, in whatever order: a gated label never serves what has not proved itself.

The oracle here is written anew: of each tier it knows the last receipt that was made of what serves now.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine

from gateway.ledger.database import open_database
from gateway.library.canaries import CanaryStore
from gateway.library.errors import LibraryError
from gateway.library.exchange import exported, take
from gateway.library.lineup import Lineup
from gateway.library.records import Override, Who
from gateway.library.standing import standing_of
from gateway.library.store import LibraryStore
from gateway.library.sync import sync
from prompts.fitted import marks
from prompts.library import PromptNotFound
from prompts.promptfile import LabelPolicy, Policy
from prompts.receipt import Receipt
from prompts.reference import read_reference
from prompts.suite import Suite
from prompts.suite_document import document_of
from prompts.template import Template
from router.bar import Bar
from router.canary import Stage
from router.record import Observed, Terms
from router.sources import Source
from tests.gateway.library.test_api import LABEL, NEW, PATH, canonical, managed
from tests.gateway.library.world import CASES, LINEUP, NOW, PROMPT, SUITE, rebuilt, receipt, template
from tests.gateway.wire import OpenRig

TIERS = ("small", "large")
FITTED = replace(template("Shown half of the cases."), fitted=marks(SUITE.cases[:10]))  # ten of twenty prove 0.74
TEMPLATES = [template(), template("Say no."), template("Small only.", tiers=("small",)), FITTED]
OTHER = Suite(tuple(replace(case, id=f"{case.id}x") for case in SUITE.cases), SUITE.bars)
SUITES = {suite.digest: suite for suite in (SUITE, OTHER)}
LINEUPS = [LINEUP, rebuilt(LINEUP, ["small"]), rebuilt(LINEUP, ["large"])]
POLICY = Policy(labels={"production": LabelPolicy(gated=True), "live": LabelPolicy(gated=True, roles=("boss",))})
LABELS = ("production", "live", "staging")
LIVE = Bar(0.95, margin=0.1)
WHO = [Who("ann"), Who("boss", frozenset({"boss"}))]
FILE = "messages: [{role: user, content: 'From a file, NUMBER.'}]\nrouting: {bar: 0.5}\n"

at = st.sampled_from((1, 1, 2, 3, 4, 5))
labels = st.sampled_from(LABELS)
lineups = st.sampled_from(range(len(LINEUPS)))


@dataclass
class Oracle:
    """What was told to the library, in the order of its making."""

    suite: Suite | None = None
    receipts: list[Receipt] | None = None

    def passes(self, of: Template, tier: str, lineup: Lineup) -> bool:
        """Its last whole run on the build that serves the tier has passed every case, which is what 0.8 of 20 asks; and
        its text was made from none of them.
        """
        if self.suite is None or of.fitted:
            return False
        build = dict(zip(TIERS, (build for _, build in lineup.models), strict=True))[tier]
        now = lineup.binding(of, tier, build, self.suite)
        runs = [r for r in self.receipts or () if r.binding == now and r.tier == tier and len(r.results) == CASES]
        return bool(runs) and max(runs, key=lambda r: (r.made_at, -r.count.passed)).count.passed == CASES


def tiers_of(of: Template) -> tuple[str, ...]:
    return of.routing.tiers or TIERS


class Doors(RuleBasedStateMachine):
    """Two workers on one database, which may serve different builds for a while, as a rolling change has it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="pointsman-doors-"))
        self.database: Engine = open_database(f"sqlite:///{self.folder / 'x.db'}")
        self.now = NOW
        self.oracle = Oracle(receipts=[])
        self.workers = [LibraryStore(self.database, LINEUP, clock=lambda: self.now) for _ in range(2)]
        self.files = 0

    def teardown(self) -> None:
        self.database.dispose()
        rmtree(self.folder)

    @initialize()
    def begins(self) -> None:
        with self.workers[0].writing() as connection:
            self.workers[0].set_policy_in(connection, POLICY)
        for of in TEMPLATES:
            self.workers[0].save(of, origin="api", author="ann")
        self.another_suite_is_asked(SUITE.digest)
        for number in (0, 2):
            self.a_suite_was_run(number, {*TIERS}, 0, CASES, CASES, "store", SUITE.digest)
        self.somebody_moves_a_label(0, "production", 1, None, True, (), WHO[0], None)
        self.somebody_moves_a_label(0, "live", 2, None, True, (), WHO[1], 1)
        assert {*self.workers[1].library().labels[PROMPT]} == {"production", "live"}
        self.somebody_begins_a_canary(0, "live", 1, True, "small", (), WHO[1])
        assert self.workers[1].records().trials[PROMPT]["live"].runs

    @rule(hours=st.integers(1, 30))
    def time_goes_by(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(worker=st.integers(0, 1), lineup=lineups)
    def another_build_serves(self, worker: int, lineup: int) -> None:
        self.workers[worker] = self.workers[worker].serving(LINEUPS[lineup])

    @rule(which=st.sampled_from(sorted(SUITES)))
    def another_suite_is_asked(self, which: str) -> None:
        self.oracle.suite = SUITES[which]
        self.workers[0].add_suite(PROMPT, SUITES[which], author="ann")

    @rule(
        number=st.integers(0, 3),
        tiers=st.sets(st.sampled_from(TIERS), min_size=1),
        lineup=lineups,
        passed=st.sampled_from((CASES, CASES, CASES, CASES - 1, 0)),
        kept=st.sampled_from((CASES, CASES, CASES, CASES - 5)),
        door=st.sampled_from(("store", "import")),
        which=st.sampled_from(sorted(SUITES)),
    )
    def a_suite_was_run(
        self, number: int, tiers: set[str], lineup: int, passed: int, kept: int, door: str, which: str
    ) -> None:
        """All of it, or only a part; a part of one that is not asked now is kept, and must prove nothing ever."""
        of, suite = TEMPLATES[number], SUITES[which]
        is_refused = kept < CASES and suite is self.oracle.suite
        for tier in sorted(tiers):
            made = receipt(of, tier, passed=passed, lineup=LINEUPS[lineup], suite=suite, made_at=self.now)
            made = replace(made, results=made.results[:kept])
            if door == "store":
                try:
                    self.workers[0].add_receipt(PROMPT, made, author="ann")
                except LibraryError:
                    assert is_refused
                    continue
            else:
                line = orjson.dumps({"kind": "receipt", "prompt": PROMPT, "receipt": made.document()})
                assert bool(take(self.workers[1], line, "ann").left_out) == is_refused
            if kept == CASES:
                assert self.oracle.receipts is not None
                self.oracle.receipts.append(made)

    @rule(
        worker=st.integers(0, 1),
        label=labels,
        number=at,
        expected=st.none() | at,
        seen=st.sampled_from((True, True, False)),
        excluded=st.sampled_from(((), (), ("small",), ("large",))),
        who=st.sampled_from(WHO),
        hours=st.none() | st.integers(-1, 40),
    )
    def somebody_moves_a_label(
        self,
        worker: int,
        label: str,
        number: int,
        expected: int | None,
        seen: bool,
        excluded: tuple[str, ...],
        who: Who,
        hours: int | None,
    ) -> None:
        store = self.workers[worker]
        current = store.library().labels.get(PROMPT, {}).get(label)
        expected = current if seen else expected
        override = None if hours is None else Override("boss", "hurry", self.now + timedelta(hours=hours))
        try:
            move = store.move_label(
                PROMPT, label, number, expected=expected, by=who, excluded=excluded, override=override
            )
        except (LibraryError, PromptNotFound):
            return
        assert expected == current
        self.check_move(store, label, number, move.excluded, move.override, who)

    @rule(worker=st.integers(0, 1), label=labels, who=st.sampled_from(WHO))
    def somebody_rolls_back(self, worker: int, label: str, who: Who) -> None:
        store = self.workers[worker]
        expected = store.library().labels.get(PROMPT, {}).get(label)
        try:
            move = store.rollback(PROMPT, label, expected=expected, by=who)
        except (LibraryError, PromptNotFound):
            return
        self.check_move(store, label, move.went_to, move.excluded, move.override, who)

    @rule(
        worker=st.integers(0, 1),
        label=labels,
        number=at,
        seen=st.sampled_from((True, True, True, False)),
        tier=st.sampled_from(("small", "small", "large", "tiny")),
        excluded=st.sampled_from(((), (), ("small",), ("large",))),
        who=st.sampled_from(WHO),
    )
    def somebody_begins_a_canary(
        self, worker: int, label: str, number: int, seen: bool, tier: str, excluded: tuple[str, ...], who: Who
    ) -> None:
        """Of a label that is not gated, too: there is no way past."""
        store = self.workers[worker]
        current = store.library().labels.get(PROMPT, {}).get(label)
        expected = current if seen else number
        more: dict[str, Any] = {"expected": expected, "by": who, "bar": LIVE, "excluded": excluded}
        try:
            trial = CanaryStore(store).begin(PROMPT, label, number, tier, **more)
        except (LibraryError, PromptNotFound):
            return
        assert expected == current != number
        assert label != "live" or "boss" in who.roles
        of = store.library().versions[PROMPT][number].template
        assert tier in tiers_of(of)[:-1]
        assert all(self.oracle.passes(of, one, store.lineup) for one in tiers_of(of) if one not in trial.excluded)

    @rule(worker=st.integers(0, 1), label=labels, who=st.sampled_from(WHO))
    def somebody_stops_a_canary(self, worker: int, label: str, who: Who) -> None:
        store = self.workers[worker]
        before = store.library().labels
        with suppress(LibraryError, PromptNotFound):
            CanaryStore(store).stop(PROMPT, label, expected=before.get(PROMPT, {}).get(label), by=who)
        assert store.library().labels == before

    @rule(
        worker=st.integers(0, 1),
        number=at,
        count=st.sampled_from((1, 60, 120)),
        passed=st.sampled_from((True, True, True, False)),
    )
    def outcomes_of_a_canary_come(self, worker: int, number: int, count: int, passed: bool) -> None:
        """Whatever they say, and whoever serves by then, its label goes through the gate or stays."""
        store = self.workers[worker]
        before = dict(store.library().labels.get(PROMPT, {}))
        at = self.now.timestamp() + 1
        observed = [Observed(Source.SHADOW, passed, at, at, safe_passed=True)] * count
        with store.writing() as connection, suppress(PromptNotFound):
            CanaryStore(store).tell_in(connection, PROMPT, number, observed, Terms(LIVE))
        for label, went_to in store.library().labels.get(PROMPT, {}).items():
            if before[label] != went_to:
                trial = store.records().trials[PROMPT][label]
                assert (trial.number, trial.canary.stage) == (went_to, Stage.WHOLE)
                of = store.library().versions[PROMPT][went_to].template
                asked = [tier for tier in tiers_of(of) if tier not in trial.excluded]
                assert all(self.oracle.passes(of, tier, store.lineup) for tier in asked)

    @rule(worker=st.integers(0, 1))
    def an_export_is_imported(self, worker: int) -> None:
        before = self.workers[0].library().labels
        take(self.workers[worker], b"".join(exported(self.workers[1 - worker])), "ann")
        assert self.workers[0].library().labels == before

    @rule(new=st.booleans(), policy=st.sampled_from(["", "tiers: [small, large]\n"]))
    def files_are_taken(self, new: bool, policy: str) -> None:
        """The folder's policy gates the same labels; its prompt is the one that labels point to."""
        self.files += new
        root = self.folder / "prompts"
        path = root / PROMPT / "triage.prompt.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FILE.replace("NUMBER", str(self.files)))
        gated = "labels: {production: {gated: true}, live: {gated: true, roles: [boss]}}\n"
        (root / "library.yaml").write_text(policy + gated)
        before = self.workers[0].library().labels
        sync(self.workers[0], root, keep="files")
        assert self.workers[1].library().labels == before

    def check_move(
        self,
        store: LibraryStore,
        label: str,
        number: int,
        excluded: frozenset[str],
        override: Override | None,
        who: Who,
    ) -> None:
        if not POLICY.labels.get(label, LabelPolicy()).gated:
            return
        of = store.library().versions[PROMPT][number].template
        asked = [tier for tier in tiers_of(of) if tier not in excluded]
        assert asked
        if all(self.oracle.passes(of, tier, store.lineup) for tier in asked):
            return
        assert override is not None
        assert label == "live"
        assert "boss" in who.roles
        assert override.until > self.now

    @invariant()
    def nothing_unproved_serves(self) -> None:
        for store in self.workers:
            records = store.records()
            library, standing = records.library, standing_of(records, store.lineup, self.now)
            overrides = records.overrides.get(PROMPT, {})
            labels = library.labels.get(PROMPT, {})
            for label in ("production", "live"):
                if label not in labels:
                    continue
                version = library.find(read_reference(f"{PROMPT}@{label}"))
                sent = standing.tiers[version.name]
                of, safe = version.template, tiers_of(version.template)[-1]
                runs = any(until > self.now for name, until in overrides.items() if labels[name] == version.number)
                assert sent <= {*tiers_of(of)}
                assert not sent & version.excluded
                unproved = {t for t in sent if not self.oracle.passes(of, t, store.lineup)}
                assert unproved <= {safe} or runs, (sent, unproved, label)
            tiers = {place.model: place.tier for place in store.lineup.places(library.policy)}
            for share in standing.shares.values():
                for model in share.models:
                    assert self.oracle.passes(share.version.template, tiers[model], store.lineup) or any(
                        until > self.now for until in overrides.values()
                    )
                    assert tiers[model] not in share.version.excluded


TestDoors = Doors.TestCase
TestDoors.settings = settings(max_examples=40, stateful_step_count=20)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(3))
async def test_many_admins_at_once_through_the_front_door_never_get_a_failing_version_served(
    rig: OpenRig, database_url: str, seed: int
) -> None:
    """Half of them with an If-Match that was right a while ago."""
    chance = random.Random(seed)
    async with managed(rig, database_url=database_url) as r:
        lineup = r.builder.runtime.prompts.lineup
        oracle = Oracle(SUITE, [])
        for of in TEMPLATES:
            saved = await r.http.post("/v1/prompts", json={"id": PROMPT, "template": canonical(of)})
            assert saved.status_code == 200
        assert (await r.http.put(f"{PATH}/suite", json=document_of(SUITE))).status_code == 200
        answers: set[int] = set()
        for _ in range(12):
            places = {str(n): f'"{n}"' for n in range(1, 4)}
            moves = []
            for _ in range(6):
                seen = chance.choice([NEW, *({"if-match": place} for place in places.values())])
                body: dict[str, Any] = {"version": chance.randint(1, 4), "excluded": chance.choice([[], ["small"]])}
                moves.append(r.http.put(LABEL, json=body, headers=seen))
            of, tier = chance.choice(TEMPLATES), chance.choice(TIERS)
            passed = chance.choice((CASES, CASES, 3))
            assert oracle.receipts is not None
            later = NOW + timedelta(minutes=len(oracle.receipts))
            made = receipt(of, tier, passed=passed, lineup=lineup, made_at=later)
            oracle.receipts.append(made)
            done = await asyncio.gather(*moves, r.http.post(f"{PATH}/receipts", json=made.document()))
            answers |= {answer.status_code for answer in done}
            await r.builder.publish()
            runtime = r.builder.runtime
            for number in runtime.library.labels.get(PROMPT, {}).values():
                version = runtime.library.versions[PROMPT][number]
                safe = tiers_of(version.template)[-1]
                for sent in runtime.prompt_tiers(version) - {safe}:
                    assert oracle.passes(version.template, sent, lineup)
                assert not runtime.prompt_tiers(version) & version.excluded
        assert answers <= {200, 400, 409, 412}
        assert {200, 409, 412} <= answers
