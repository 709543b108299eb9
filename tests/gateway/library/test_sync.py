"""Files and records are two doors to one library: what is new is taken, what both have changed is shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.database import open_database
from gateway.library.errors import FolderRefused, NumberTaken
from gateway.library.lock import LOCK, Locked, read_lock, write_lock
from gateway.library.store import LibraryStore
from gateway.library.sync import Known, Side, Step, look, step, sync
from prompts.folder import load
from prompts.template import Template
from tests.gateway.library.world import LINEUP, NOW
from tests.prompts.trees import FILES, PROMPT, write

ID, BASE = "a/b", "a/b/b.prompt.yaml"
TESTS = "gate: {default: 0.8}\ntests: [{vars: {text: hi}, assert: [{type: equals, value: hi}]}]\n"
NAMES = ("f", "r", "g")


def said(words: str) -> dict[str, str | bytes]:
    return {BASE: PROMPT.replace("Say something", words)}


def of_files(root: Path, words: str) -> Template:
    """What the files would say with these *words*."""
    return load(write(root / f"aside-{words}", {**FILES, **said(words)})).prompts[ID].template


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "prompts", FILES)


def numbers(store: LibraryStore) -> list[int]:
    return [one.version.number for one in store.saved(ID)]


def test_what_is_new_in_the_files_is_a_version_and_nothing_happens_twice(store: LibraryStore, root: Path) -> None:
    assert sync(store, root).saved == (f"{ID}@1",)
    epoch = store.epoch()
    assert sync(store, root) == sync(store, root)
    assert (sync(store, root).saved, numbers(store)) == ((), [1])
    write(root, said("More"))
    assert sync(store, root).saved == (f"{ID}@2",)
    [one, two] = store.saved(ID)
    assert (one.origin, two.parent, two.version.template.description) == ("file", 1, "More")
    assert read_lock(root)[ID].version == 2
    assert store.library().labels == {}
    assert store.epoch() > epoch


def test_another_database_gives_the_same_files_the_same_numbers(
    store: LibraryStore, root: Path, tmp_path: Path
) -> None:
    for words in ("a", "b", "c"):
        write(root, said(words))
        sync(store, root)
    fresh = LibraryStore(open_database(f"sqlite:///{tmp_path / 'fresh.db'}"), LINEUP, clock=lambda: NOW)
    assert sync(fresh, root).saved == (f"{ID}@3",)
    assert fresh.saved(ID)[0].version.template == store.saved(ID)[2].version.template


def test_one_version_with_two_contents_is_refused_by_both_places(store: LibraryStore, root: Path) -> None:
    sync(store, root)
    other = write(root.parent / "other", {**FILES, **said("Other")})
    write_lock(other, {ID: Locked(1, load(other).prompts[ID].template.digest)})
    with pytest.raises(NumberTaken, match=rf"a/b@1 is \w+ in .*{LOCK} and \w+ in the database"):
        sync(store, other)
    assert numbers(store) == [1]


def test_what_both_have_changed_is_shown_and_not_merged(store: LibraryStore, root: Path, tmp_path: Path) -> None:
    sync(store, root)
    store.save(of_files(tmp_path, "Edited here"), origin="api", author="ann")
    assert sync(store, root).ahead == (f"{ID}@2",)
    write(root, said("Edited there"))
    for _ in range(2):
        [conflict] = sync(store, root).conflicts
        assert (conflict.base, conflict.record) == (f"{ID}@1", f"{ID}@2 in the database")
        assert str(root / BASE) in conflict.file
        assert numbers(store) == [1, 2]
    assert read_lock(root)[ID].version == 1


@pytest.mark.parametrize(("keep", "then"), [("files", [1, 2, 3]), ("records", [1, 2])])
def test_whoever_keeps_a_side_ends_the_conflict(
    store: LibraryStore, root: Path, tmp_path: Path, keep: Side, then: list[int]
) -> None:
    sync(store, root)
    store.save(of_files(tmp_path, "Edited here"), origin="api", author="ann")
    write(root, said("Edited there"))
    assert sync(store, root, keep=keep).conflicts == ()
    assert numbers(store) == then
    after = sync(store, root)
    assert (after.conflicts, after.saved, after.ahead) == ((), (), (f"{ID}@2",) if keep == "records" else ())
    write(root, said("Edited once more"))
    assert sync(store, root).saved == (f"{ID}@{then[-1] + 1}",)


def test_the_same_edit_on_both_sides_is_no_conflict(store: LibraryStore, root: Path, tmp_path: Path) -> None:
    sync(store, root)
    store.save(of_files(tmp_path, "Edited"), origin="api", author="ann")
    write(root, said("Edited"))
    assert (sync(store, root).conflicts, numbers(store)) == ((), [1, 2])


def test_files_do_not_wait_for_drafts(store: LibraryStore, root: Path, tmp_path: Path) -> None:
    sync(store, root)
    store.save(of_files(tmp_path, "Tried"), origin="optimised", author="gepa")
    write(root, said("Edited"))
    assert sync(store, root).saved == (f"{ID}@3",)


def test_going_back_in_the_files_makes_no_version_and_is_remembered(store: LibraryStore, root: Path) -> None:
    for words in ("a", "b", "a"):
        write(root, said(words))
        sync(store, root)
    assert numbers(store) == [1, 2]
    assert (sync(store, root).ahead, read_lock(root)[ID].version) == ((), 1)


def test_a_prompt_that_the_records_had_first_is_a_conflict_without_a_base(
    store: LibraryStore, root: Path, tmp_path: Path
) -> None:
    store.save(of_files(tmp_path, "Here first"), origin="api", author="ann")
    [conflict] = sync(store, root).conflicts
    assert conflict.base is None


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({BASE: "messages: [\n"}, f"{BASE}:2"),
        ({BASE: PROMPT.replace("{{ text }}", "{{ txt }}")}, "'txt' is no variable"),
        ({"a/b/tests.yaml": TESTS.replace("equals", "equal")}, "a/b/tests.yaml:2"),
        ({LOCK: "{"}, LOCK),
        ({LOCK: '{"a/b": 1}'}, LOCK),
    ],
)
def test_files_with_a_mistake_change_nothing_and_are_told_by_line(
    store: LibraryStore, root: Path, files: dict[str, str | bytes], says: str
) -> None:
    sync(store, root)
    before = (store.epoch(), store.library())
    write(root, {**said("Fine"), "c/c.prompt.yaml": "messages: [{role: user, content: hi}]\n", **files})
    with pytest.raises(FolderRefused, match=says.replace("'", ".")):
        sync(store, root)
    assert (store.epoch(), store.library()) == before


def test_a_suite_comes_with_its_prompt_and_changes_with_it(store: LibraryStore, root: Path) -> None:
    write(root, {"a/b/tests.yaml": TESTS})
    assert sync(store, root).suites == (ID,)
    assert sync(store, root).suites == ()
    write(root, {"a/b/tests.yaml": TESTS.replace("0.8", "0.9")})
    sync(store, root)
    suite = store.suite(ID)
    assert suite is not None
    assert (suite.bars.default, len(suite.cases)) == ("0.9", 1)


def test_the_policy_is_that_of_the_files(store: LibraryStore, root: Path) -> None:
    write(root, {"library.yaml": "tiers: [small, medium, large]\nbars: {default: 0.9}\n"})
    sync(store, root)
    assert store.library().policy.tiers == ("small", "medium", "large")
    assert store.library().policy.labels["production"].gated


def test_a_look_changes_nothing(store: LibraryStore, root: Path) -> None:
    assert look(store, root).saved == (f"{ID}@1",)
    assert (store.library().versions, (root / LOCK).exists()) == ({}, False)


def test_a_folder_that_cannot_be_written_is_taken_all_the_same(
    store: LibraryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("gateway.library.lock.NamedTemporaryFile", refused)
    assert sync(store, root).saved == (f"{ID}@1",)
    assert sync(store, root).saved == ()


@given(
    digest=st.sampled_from(NAMES),
    numbers=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=3),
    head=st.integers(0, 3),
    agreed=st.none() | st.sampled_from(NAMES),
    head_then=st.integers(0, 3),
    keep=st.sampled_from(["files", "records", None]),
)
def test_what_both_have_changed_is_never_taken_in_silence(
    digest: str, numbers: dict[str, int], head: int, agreed: str | None, head_then: int, keep: Side | None
) -> None:
    known = Known(numbers, head, agreed, head_then)
    todo = step(digest, known, keep)
    both = digest != agreed and head > head_then and numbers.get(digest) != head
    assert (todo is Step.CONFLICT) == (both and keep is None)
    assert todo is not Step.NEW or digest not in numbers
    assert step(digest, known, keep) == todo
