"""What a budget asks for and what it may not be; and that the plugin does nothing unasked."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sparse.budget import PAGE_TOKENS, Budget, SparseRefused, budget_from
from models.sparse.plugin import register

ASKED = "POINTSMAN_SPARSE_BUDGET_TOKENS"


@given(
    budget=st.integers(1, 20_000),
    sink=st.integers(0, 300),
    recent=st.integers(1, 600),
    page=st.sampled_from(PAGE_TOKENS),
    length=st.integers(1, 40_000),
)
def test_pages_hold_the_sink_and_the_recent_tokens_and_no_more_than_the_budget(
    budget: int, sink: int, recent: int, page: int, length: int
) -> None:
    asked = Budget(budget, sink_tokens=sink, recent_tokens=recent, page_tokens=page)
    try:
        pages = asked.pages()
    except SparseRefused:
        assert budget // page < -(-sink // page) + 1 + -(-(recent - 1) // page) + 1
        return
    newest = -(-length // page) - 1
    assert pages.keep * page <= budget
    assert pages.sink * page >= sink
    assert (newest - pages.recent + 1) * page <= max(0, length - recent)
    assert pages.keep > pages.sink + pages.recent


def test_nothing_is_asked_for_unless_a_budget_is() -> None:
    assert budget_from({}) is None
    assert budget_from({ASKED: "", "POINTSMAN_SPARSE_SINK_TOKENS": "64"}) is None


def test_each_field_is_a_setting() -> None:
    environment = {
        ASKED: "2048",
        "POINTSMAN_SPARSE_SINK_TOKENS": "64",
        "POINTSMAN_SPARSE_RECENT_TOKENS": "256",
        "POINTSMAN_SPARSE_PAGE_TOKENS": "16",
        "POINTSMAN_SPARSE_DENSE_LAYERS": "0",
        "POINTSMAN_SPARSE_DENSE_BELOW_TOKENS": "3000",
    }

    assert budget_from(environment) == Budget(2048, 64, 256, 16, 0, 3000)


def test_short_contexts_stay_dense_and_never_one_that_the_budget_covers() -> None:
    assert Budget(1024).threshold_tokens == 4096
    assert Budget(1024, dense_below_tokens=10).threshold_tokens == 1025


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({ASKED: "many"}, "POINTSMAN_SPARSE_BUDGET_TOKENS is 'many': it takes a whole number of tokens"),
        ({ASKED: "-1"}, "whole number of tokens"),
        ({ASKED: "1024", "POINTSMAN_SPARSE_DENSE_LAYERS": "1.5"}, "whole number of layers"),
        ({ASKED: "1024", "POINTSMAN_SPARSE_PAGE_TOKENS": "48"}, "may be 16, 32, 64, 128"),
        ({ASKED: "1024", "POINTSMAN_SPARSE_RECENT_TOKENS": "0"}, "newest page is always read"),
        ({ASKED: "100"}, r"take 224; ask for that much or more"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_with_the_remedy(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SparseRefused, match=words):
        budget_from(environment)


def test_unasked_the_plugin_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed wherever Pointsman and vLLM are, and most engines are dense."""
    monkeypatch.delenv(ASKED, raising=False)
    before = {*sys.modules}

    register()

    assert {*sys.modules} == before


def test_a_bad_budget_ends_the_engine_rather_than_serving_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ASKED, "5")

    with pytest.raises(SparseRefused):
        register()
