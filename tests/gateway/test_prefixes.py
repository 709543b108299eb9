"""What a model's prompt cache may have is known by template and conversation, fades, and stays small."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import prefixes as prefixes_module
from gateway.prefixes import PREFIX_SECONDS, Prefixes, shared_bytes, warm_bytes

SYSTEM = {"role": "system", "content": "A long task. " * 50}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def body(*turns: str, system: dict[str, str] | None = SYSTEM) -> dict[str, Any]:
    said = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(turns)]
    return {"messages": [system, *said] if system else said}


def test_a_template_is_warm_where_it_was_read_and_nowhere_else() -> None:
    known = Prefixes(Clock())
    known.note("t", body("one"), 900, "small")
    found = known.of("t", body("another"))
    assert 600 < warm_bytes(found, "small", known.now) < 800  # its fixed part alone
    assert warm_bytes(found, "large", known.now) == 0
    assert known.of("other", body("another")) == []


def test_a_conversation_is_warm_as_far_as_it_had_come() -> None:
    known = Prefixes(Clock())
    known.note(None, body("one", system=None), 100, "small")
    next_turn = body("one", "an answer", "two", system=None)
    assert warm_bytes(known.of(None, next_turn), "small", known.now) == 100
    known.note(None, next_turn, 300, "large")
    third = body("one", "an answer", "two", "more", "three", system=None)
    assert warm_bytes(known.of(None, third), "large", known.now) == 300
    assert warm_bytes(known.of(None, third), "small", known.now) == 100
    assert known.of(None, body("one", system=None)) == []  # a first turn begins a conversation


def test_what_was_not_read_for_long_is_cold() -> None:
    clock = Clock()
    known = Prefixes(clock)
    known.note("t", body("one"), 900, "small")
    clock.now = PREFIX_SECONDS
    assert warm_bytes(known.of("t", body("one")), "small", clock.now) == 0


def test_a_cold_beginning_that_many_share_is_paid_by_all_of_them() -> None:
    """Else a dear model that is warm would keep a template for ever, as no single request pays to warm a cheap one."""
    clock = Clock()
    known = Prefixes(clock)
    shares = []
    for _ in range(20):
        known.note("t", body("one"), 900, "large")
        found = known.of("t", body("one"))
        shares.append(shared_bytes(found, "small", clock.now) / found[0].bytes)
    assert shares[0] == 0.5
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    clock.now = 10 * PREFIX_SECONDS  # since then nobody has asked
    assert shared_bytes(known.of("t", body("one")), "small", clock.now) < 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["s", "t", None]), st.sampled_from(["small", "large"]), st.floats(0, 200)),
        max_size=30,
    )
)
def test_a_warm_beginning_counts_whole_and_a_cold_one_less(asked: list[tuple[str | None, str, float]]) -> None:
    clock = Clock()
    known = Prefixes(clock)
    for template, model, pause in asked:
        clock.now += pause
        known.note(template, body("one"), 900, model)
        for of in ("small", "large"):
            found = known.of("t", body("one"))
            warm, shared = warm_bytes(found, of, clock.now), shared_bytes(found, of, clock.now)
            assert shared == warm if warm else 0 <= shared < max((p.bytes for p in found), default=1)


def test_only_the_beginnings_used_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes_module, "PREFIXES_LIMIT", 4)
    known = Prefixes(Clock())
    for number in range(100):
        known.note(f"t{number}", body(f"question {number}"), 900, "small")
    assert len(known._known) == 4
    assert known.of("t99", body("x"))
    assert not known.of("t90", body("x"))
