"""Prompts fall into splits by their id alone, and a sample is balanced wherever it is cut off."""

import gzip
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.message import template_key
from router.ladder import LadderPrompt, Split, read_ladder, sample, split_of

ROW = {"id": "1a", "task": "bbh_date_understanding", "prompt": "Say the date.\nToday?\nOr not?", "answer": "42"}
ROW = {**ROW, "grade": "exact"}

sizes = st.dictionaries(st.sampled_from(["sums", "dates", "words", "code"]), st.integers(1, 12))


def _prompts(sizes: Mapping[str, int]) -> list[LadderPrompt]:
    return [LadderPrompt(f"{task}-{n}", task, (), "", "exact") for task, size in sizes.items() for n in range(size)]


def _write(path: Path, rows: Iterable[object]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def test_two_fifths_fit_one_fifth_calibrates_two_fifths_test() -> None:
    total = 20_000
    shares = Counter(split_of(f"{n:012x}") for n in range(total))

    assert shares[Split.FIT] / total == pytest.approx(0.4, abs=0.012)  # three and a half standard deviations
    assert shares[Split.CALIBRATE] / total == pytest.approx(0.2, abs=0.012)
    assert shares[Split.TEST] / total == pytest.approx(0.4, abs=0.012)


@given(prompt_id=st.text(st.characters(exclude_categories=["Cs"])))
def test_the_split_is_a_hash_of_the_id_and_of_nothing_else(prompt_id: str) -> None:
    """Written out anew, so that a change of the hash, which would let TEST prompts leak, does not pass unseen."""
    share = int(hashlib.sha256(f"split:{prompt_id}".encode()).hexdigest()[:16], 16) / 2**64
    expected = Split.FIT if share < 0.4 else Split.CALIBRATE if share < 0.6 else Split.TEST

    assert split_of(prompt_id) is expected


def test_the_sample_does_not_prefer_a_split() -> None:
    """Else the first prompts collected would all be of one split."""
    first = sample(_prompts({"sums": 5000}), 1000)
    shares = Counter(split_of(p.id) for p in first)

    assert shares[Split.TEST] / len(first) == pytest.approx(0.4, abs=0.055)  # three and a half standard deviations
    assert shares[Split.CALIBRATE] / len(first) == pytest.approx(0.2, abs=0.055)


@given(sizes=sizes, per_task=st.integers(0, 15))
def test_a_sample_is_balanced_wherever_it_is_cut(sizes: dict[str, int], per_task: int) -> None:
    chosen = sample(_prompts(sizes), per_task)

    assert Counter(p.task for p in chosen) == Counter({task: min(size, per_task) for task, size in sizes.items()})
    assert len({p.id for p in chosen}) == len(chosen)
    for end in range(len(chosen) + 1):
        counts = Counter(p.task for p in chosen[:end])
        most = max(counts.values(), default=0)
        assert all(counts[task] >= min(most - 1, sizes[task], per_task) for task in sizes)


@given(sizes=sizes, per_task=st.integers(0, 15), order=st.randoms(use_true_random=False))
def test_a_sample_does_not_depend_on_the_order_of_the_file(
    sizes: dict[str, int], per_task: int, order: random.Random
) -> None:
    prompts = _prompts(sizes)
    shuffled = list(prompts)
    order.shuffle(shuffled)

    assert sample(shuffled, per_task) == sample(prompts, per_task)


@given(sizes=sizes, per_task=st.integers(1, 15))
def test_a_larger_sample_contains_the_smaller_one(sizes: dict[str, int], per_task: int) -> None:
    """What has been collected stays of use when more is asked for."""
    smaller, larger = sample(_prompts(sizes), per_task - 1), sample(_prompts(sizes), per_task)

    assert {p.id for p in smaller} <= {p.id for p in larger}


def test_reads_a_prompt_as_an_application_would_send_it(tmp_path: Path) -> None:
    (prompt,) = read_ladder(_write(tmp_path / "ladder.gz", [ROW]))

    assert (prompt.id, prompt.task, prompt.expected, prompt.grade) == ("1a", "bbh_date_understanding", "42", "exact")
    assert prompt.messages == (
        {"role": "system", "content": "Task: date understanding.\nSay the date."},
        {"role": "user", "content": "Today?\nOr not?"},
    )


def test_prompts_of_a_task_share_a_template_and_keep_their_order(tmp_path: Path) -> None:
    questions = ["one", "two\n\nlines", "Ω\u2028ω"]
    rows = [{**ROW, "id": q, "prompt": f"Say the date.\n{q}"} for q in questions]
    prompts = read_ladder(_write(tmp_path / "ladder.gz", rows))

    assert [p.messages[1]["content"] for p in prompts] == questions
    assert len({template_key({"messages": list(p.messages)}) for p in prompts}) == 1


@pytest.mark.parametrize(
    "row", [7, "text", None, {**ROW, "prompt": "no question"}, {**ROW, "prompt": "none\n"}, {**ROW, "prompt": 7}]
)
def test_names_the_line_that_is_not_a_prompt(tmp_path: Path, row: object) -> None:
    with pytest.raises(ValueError, match="line 2: not a ladder prompt"):
        read_ladder(_write(tmp_path / "ladder.gz", [ROW, row]))


@pytest.mark.parametrize("missing", ROW)
def test_names_the_field_that_a_row_lacks(tmp_path: Path, missing: str) -> None:
    row = {key: value for key, value in ROW.items() if key != missing}

    with pytest.raises(ValueError, match=missing):
        read_ladder(_write(tmp_path / "ladder.gz", [row]))


def test_refuses_a_file_that_is_not_gzip_not_whole_or_not_json(tmp_path: Path) -> None:
    path = _write(tmp_path / "ladder.gz", [{**ROW, "id": str(n)} for n in range(100)])
    whole = path.read_bytes()

    for damaged in (whole[:-20], whole[: len(whole) // 2], whole[:40] + b"\xff" * 40, gzip.compress(b"{not json}\n")):
        path.write_bytes(damaged)
        with pytest.raises((ValueError, OSError)):
            read_ladder(path)
    path.write_bytes(json.dumps(ROW).encode())
    with pytest.raises(OSError, match="gzip"):
        read_ladder(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ladder(tmp_path / "ladder.gz")
