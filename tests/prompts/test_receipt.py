"""A receipt counts what it holds, is bound to all that may change a result, and cannot be changed unseen."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.receipt import WORDS, Binding, Count, Receipt, Result

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BINDING = Binding("template", "suite", "parameters", "build", "judge")
RESULTS = (
    Result("a", True, ("safety",), {"form": True}),
    Result("b", False, ("safety", "short"), {"form": True}, ("equals: is not 'bug'",)),
    Result("c", True),
    Result("d", False, (), {"form": False}, ("error: EngineUnavailable",), errors=1),
)
RECEIPT = Receipt(BINDING, "small", RESULTS, NOW, 12.5, 0.5, Decimal("0.0012"), 100, 20)


def test_it_counts_its_cases_by_tag_and_metric() -> None:
    assert RECEIPT.count == Count(2, 4)
    assert RECEIPT.tags == ("safety", "short")
    assert (RECEIPT.of_tag("safety"), RECEIPT.of_tag("none")) == (Count(1, 2), Count(0, 0))
    assert RECEIPT.metrics == ("form",)
    assert RECEIPT.of_metric("form") == Count(2, 3)
    assert RECEIPT.errors == 1


def test_every_part_of_its_binding_makes_it_stale_and_is_named() -> None:
    assert RECEIPT.stale(BINDING) == ()
    for part in fields(Binding):
        assert RECEIPT.stale(replace(BINDING, **{part.name: "other"})) == (WORDS[part.name],)
    assert RECEIPT.stale(Binding("", "", "", "", "")) == tuple(WORDS[part.name] for part in fields(Binding))


def test_a_case_counts_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        replace(RECEIPT, results=(RESULTS[0], RESULTS[0]))


def test_its_time_has_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        replace(RECEIPT, made_at=NOW.replace(tzinfo=None))


results = st.lists(
    st.builds(
        Result,
        st.text(min_size=1),
        st.booleans(),
        st.lists(st.text(), max_size=2).map(tuple),
        st.dictionaries(st.text(), st.booleans(), max_size=2),
        st.lists(st.text(), max_size=2).map(tuple),
        st.integers(0, 3),
    ),
    max_size=5,
    unique_by=lambda result: result.case,
)
receipts = st.builds(
    Receipt,
    st.builds(Binding, *[st.text()] * 5),
    st.text(),
    results.map(tuple),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))])),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e3),
    st.none() | st.decimals(0, 1000, places=9),
    st.none() | st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
)


@given(receipts)
def test_it_comes_back_from_json_as_it_was(receipt: Receipt) -> None:
    again = Receipt.read(orjson.loads(orjson.dumps(receipt.document())))
    assert again == receipt
    assert again.id == receipt.id


@pytest.mark.parametrize(
    "change",
    [
        {"passed": 4},
        {"tier": "large"},
        {"id": "r_0"},
        {"binding": {**RECEIPT.document()["binding"], "build": "other"}},
        {"results": [{**one, "passed": True} for one in RECEIPT.document()["results"]]},
        {"results": RECEIPT.document()["results"][:1]},
        {"results": 7},
        {"results": [{}]},
        {"binding": {}},
        {"made_at": "yesterday"},
        {"made_at": "2026-11-25"},
        {"cost_usd": "free"},
        {"further": 1},
    ],
)
def test_a_document_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Receipt.read({**RECEIPT.document(), **change})


@pytest.mark.parametrize("key", list(RECEIPT.document()))
def test_a_document_that_lacks_something_is_refused(key: str) -> None:
    document = RECEIPT.document()
    del document[key]
    with pytest.raises(ValueError, match=r"not a receipt|was changed"):
        Receipt.read(document)
