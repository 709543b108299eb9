"""What a suite has shown reaches the router: each case once, beside the safe tier's where the bar is relative."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from gateway.learning.receipts import Counted, Overtaken, ReceiptCounter, Shown, outcomes_of, shown_in
from gateway.ledger.tables import evidence, suite_outcomes
from gateway.library.lineup import Lineup
from gateway.library.records import Records
from gateway.library.store import LibraryStore
from prompts.assertions.kind import Assertion
from prompts.fitted import marks
from prompts.library import Library, Version
from prompts.receipt import Receipt, Result
from prompts.suite import Bars, Case, Suite
from prompts.template import Template, Text
from router.bar import Bar, Cause, Tally
from router.record import Record, Terms
from router.sources import Source
from tests.gateway.prompting.world import Trusting
from tests.gateway.wire import CHAT, OpenRig
from tests.rig import Rig

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CASES = 100
TEMPLATE = Template(
    "say", (Text("user", "{{ text }}"),), {"type": "object", "properties": {"text": {"type": "string"}}}
)
ASKED = {"prompt": {"id": TEMPLATE.id, "version": "latest", "variables": {"text": "hello"}}}
PASS_RATE, MARGIN = Bar(0.95, pass_rate=0.8), Bar(0.95, margin=0.1)


def suite(word: str = "yes") -> Suite:
    return Suite(
        tuple(Case(f"c{n}", (Assertion("equals", value=word),), {"text": str(n)}) for n in range(CASES)), Bars("0.8")
    )


def receipt(
    lineup: Lineup,
    tier: str,
    passed: Callable[[int], bool] = lambda case: True,
    of: Suite | None = None,
    minutes: int = 0,
    template: Template = TEMPLATE,
) -> Receipt:
    [place] = [place for place in lineup.places(Records().library.policy) if place.tier == tier]
    of = of or suite()
    results = tuple(Result(case.id, passed(n)) for n, case in enumerate(of.cases))
    binding = lineup.binding(template, tier, place.build, of)
    return Receipt(binding, tier, results, NOW + timedelta(minutes=minutes), 1.0)


@given(small=st.lists(st.booleans(), min_size=CASES, max_size=CASES), large=st.lists(st.booleans(), max_size=CASES))
def test_an_outcome_is_beside_the_safe_tiers_on_the_same_case(small: list[bool], large: list[bool]) -> None:
    lineup = Lineup((("small", "s"), ("large", "l")), 0.95)
    mine = receipt(lineup, "small", small.__getitem__)
    safe = receipt(lineup, "large", lambda n: large[n] if n < len(large) else False)
    safe = replace(safe, results=safe.results[: len(large)][::-1])  # in another order, and not all
    told = outcomes_of(Shown((TEMPLATE.key, "s"), mine, safe), {"c0": True}, at=1.0)
    beside = [large[n] if n < len(large) else None for n in range(CASES)]
    assert [(one.passed, one.safe_passed) for one in told] == list(zip(small, beside, strict=True))
    assert [one.was for one in told] == [True, *[None] * (CASES - 1)]
    assert {(one.source, one.suite, one.served_at) for one in told} == {(Source.SUITE, suite().digest, NOW.timestamp())}


class World:
    """A gateway whose library has one prompt, and what its records say of the small model."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.prompts: LibraryStore = rig.builder.runtime.prompts
        self.prompts.save(TEMPLATE, origin="api", author="test")
        self.prompts.add_suite(TEMPLATE.id, suite(), author="test")

    @property
    def lineup(self) -> Lineup:
        return self.prompts.lineup

    async def add(self, tier: str, *arguments: Any, **more: Any) -> None:
        made = receipt(self.lineup, tier, *arguments, **more)
        await anyio.to_thread.run_sync(lambda: self.prompts.add_receipt(TEMPLATE.id, made, author="test"))
        await self.rig.builder.publish()

    async def count(self) -> Record | None:
        await self.rig.builder.count()
        found = await anyio.to_thread.run_sync(lambda: list(self.rig.runtime.records.read(template=TEMPLATE.key)))
        return found[0].record if found else None

    async def answers(self) -> str:
        await self.rig.builder.learn()
        response = await self.rig.http.post(CHAT, json=ASKED)
        assert response.status_code == 200, response.text
        return str(response.headers["x-pointsman-model"])


def tally(record: Record | None) -> Tally:
    assert record is not None
    return record.generations[0].tallies.get(Source.SUITE, Tally())


@pytest.mark.anyio
async def test_a_version_whose_suite_passes_on_the_small_model_moves_there(rig: OpenRig) -> None:
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await r.builder.publish()
        assert await world.answers() == "large"
        await world.add("small")
        assert tally(await world.count()) == Tally(CASES, CASES)
        assert await world.answers() == "small"


@pytest.mark.anyio
async def test_a_receipt_counts_once_whoever_asks_how_often(rig: OpenRig) -> None:
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await world.add("small", lambda n: n >= 10)
        once = tally(await world.count())
        r.builder._receipts = ReceiptCounter(r.builder._database, r.runtime.records)  # another process
        assert tally(await world.count()) == once == Tally(CASES - 10, CASES)


@pytest.mark.anyio
async def test_asked_again_a_suite_corrects_and_does_not_add(rig: OpenRig) -> None:
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await world.add("small", lambda n: n >= 10)
        await world.count()
        await world.add("small", lambda n: n >= 4, minutes=1)
        assert tally(await world.count()) == Tally(CASES - 4, CASES)
        await world.add("small", lambda n: n >= 50, minutes=-1)  # an older one that comes late
        assert tally(await world.count()) == Tally(CASES - 4, CASES)


@pytest.mark.anyio
async def test_cases_that_a_text_was_made_from_are_no_outcomes_of_it(rig: OpenRig) -> None:
    """Of ten thousand they would be no more proof: it was told them."""
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        made = replace(TEMPLATE, fitted=marks(suite().cases[:90]))
        await anyio.to_thread.run_sync(lambda: world.prompts.save(made, origin="optimised", author="test"))
        await world.add("small", template=made)
        await r.builder.count()
        found = await anyio.to_thread.run_sync(lambda: list(r.runtime.records.read(template=made.key)))
        assert tally(found[0].record) == Tally(10, 10)
        assert await world.answers() == "large"


def test_cases_that_a_model_was_taught_are_no_outcomes_of_it_but_of_others() -> None:
    lineup = Lineup((("small", "s"), ("large", "l")), 0.95, taught={"s": frozenset(marks(suite().cases[:90]))})
    receipts = (receipt(lineup, "small"), receipt(lineup, "large"))
    library = Library({TEMPLATE.id: {1: Version(TEMPLATE, 1)}})
    records = Records(library, suites={TEMPLATE.id: suite()}, receipts={TEMPLATE.id: receipts})
    [shown] = shown_in(records, lineup)
    assert (len(shown.passed), len(shown.safe_passed)) == (10, 100)


@pytest.mark.anyio
async def test_what_was_counted_is_kept_while_its_record_or_its_receipt_is_there(rig: OpenRig) -> None:
    """Or the same cases would be counted twice; and not for longer, or every version ever tested would stay."""
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        counter: ReceiptCounter = r.builder._receipts

        def rows(connection: Any) -> int:
            return int(connection.execute(select(func.count()).select_from(suite_outcomes)).scalar_one())

        async def changed(of: Suite) -> int:
            """How many are left after a change of the library that has nothing to do with receipts."""
            await anyio.to_thread.run_sync(lambda: world.prompts.add_suite(TEMPLATE.id, of, author="test"))
            await r.builder.publish()
            await r.builder.count()
            with counter._database.connect() as connection:
                return rows(connection)

        def forgotten() -> None:
            with counter._database.begin() as connection:
                connection.execute(delete(evidence))

        await world.add("small")
        once = tally(await world.count())
        assert await changed(suite("no")) == 1, "its record is there"
        assert await changed(suite()) == 1
        assert tally(await world.count()) == once, "it was not counted anew"
        await anyio.to_thread.run_sync(forgotten)
        assert await changed(suite()) == 1, "a receipt is about it"
        assert await world.count() is None, "and what was forgotten for want of space is not counted again"
        assert await changed(suite("no")) == 0
        assert await changed(suite()) == 1, "told anew, in a new record"
        assert tally(await world.count()) == once


@pytest.mark.anyio
async def test_where_the_bar_is_a_margin_it_waits_for_the_safe_tiers(rig: OpenRig) -> None:
    async with rig(knowledge_maker=Trusting(bar=MARGIN)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await world.add("small", lambda n: n >= 3)
        assert await world.count() is None
        await world.add("large", lambda n: n >= 2)
        assert tally(await world.count()) == Tally(passed=97, total=100, lost=1, won=0, paired=100)


@pytest.mark.anyio
async def test_cases_of_another_suite_begin_anew(rig: OpenRig) -> None:
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await world.add("small")
        await world.count()
        other = suite("no")
        await anyio.to_thread.run_sync(lambda: world.prompts.add_suite(TEMPLATE.id, other, author="test"))
        await world.add("small", lambda n: n >= 5, other, minutes=1)
        record = await world.count()
        assert record is not None
        assert (record.cause, record.suite) == (Cause.SUITE_CHANGED, other.digest)
        assert tally(record) == Tally(CASES - 5, CASES)


@pytest.mark.anyio
async def test_after_an_alarm_only_a_receipt_made_since_counts_and_all_of_it(rig: OpenRig) -> None:
    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await world.add("small")
        await world.count()

        def alarmed(record: Record) -> Record:
            from router.record import restart

            return restart(record, Cause.RATE_FELL, (NOW + timedelta(minutes=5)).timestamp())

        await anyio.to_thread.run_sync(lambda: r.runtime.records.change_existing(TEMPLATE.key, None, alarmed))
        await world.add("small", minutes=2)
        assert tally(await world.count()) == Tally()
        assert await world.answers() == "large"
        await world.add("small", minutes=9)
        assert tally(await world.count()) == Tally(CASES, CASES)
        assert await world.answers() == "small"


@pytest.mark.anyio
async def test_who_comes_second_counts_nothing(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that have both seen that it was not counted."""
    from gateway.learning import receipts as module

    async with rig(bar="0.8", knowledge_maker=Trusting(bar=PASS_RATE)) as r:
        world = await anyio.to_thread.run_sync(World, r)
        await world.add("small")
        knowledge, terms = r.builder.runtime.knowledge, Terms(PASS_RATE)
        [shown] = shown_in(await anyio.to_thread.run_sync(world.prompts.records), world.lineup)
        counter = ReceiptCounter(r.builder._database, r.runtime.records)
        assert await anyio.to_thread.run_sync(counter.count_one, shown, knowledge, terms)
        seen: list[Counted | None] = [None]  # what the second one has read before the first one wrote
        real = module._last
        monkeypatch.setattr(module, "_last", lambda *asked: seen.pop() if seen else real(*asked))
        with pytest.raises(Overtaken):
            await anyio.to_thread.run_sync(counter.count_one, shown, knowledge, terms)
        assert tally(await world.count()) == Tally(CASES, CASES)
