"""What is published serves in every process, at once and whole; what cannot be read changes nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.ledger.database import open_database
from gateway.library.publishing import publish, published_since
from gateway.library.records import Override, Who
from gateway.library.standing import Standing
from gateway.library.store import LibraryStore
from gateway.settings import SettingsError
from prompts.promptfile import LabelPolicy, Policy
from prompts.reference import read_reference
from tests.gateway.library.test_api import managed
from tests.gateway.library.world import NOW, PROMPT, SUITE, prove, template
from tests.gateway.wire import CHAT, OpenRig, chat, error_of, until
from tests.prompts.trees import FILES, write
from tests.prompts.trees import PROMPT as FILE
from tests.rig import Rig

pytestmark = pytest.mark.anyio

SEEN_SECONDS = 2.0  # of a label that somebody else has moved
ANN = Who("ann")
MOVES = 12


@contextmanager
def elsewhere(r: Rig) -> Iterator[LibraryStore]:
    """The same library, as another process has it open."""
    database = open_database(r.runtime.settings.database)
    try:
        yield LibraryStore(database, r.runtime.prompts.lineup)
    finally:
        database.dispose()


def now_at(r: Rig, label: str = "staging") -> int:
    runtime = r.builder.runtime
    version = runtime.library.find(read_reference(f"{PROMPT}@{label}"))
    assert runtime.prompt_tiers(version) == {"large"}
    assert runtime.standing.of(version) is not None  # both are of one moment
    return version.number


async def test_a_label_that_another_process_has_moved_serves_within_two_seconds(
    rig: OpenRig, database_url: str
) -> None:
    async with rig(database_url=database_url) as r:
        with elsewhere(r) as other:
            await asyncio.to_thread(other.save, template(), origin="api", author="ann")
            await asyncio.to_thread(other.move_label, PROMPT, "staging", 1, expected=None, by=ANN)
        await until(lambda: r.builder.runtime.library.labels != {}, SEEN_SECONDS)
        assert now_at(r) == 1


async def test_publishing_under_load_fails_no_request_and_shows_no_half_of_a_change(
    rig: OpenRig, database_url: str
) -> None:
    async with managed(rig, database_url=database_url) as r:
        for said in ("a", "b"):
            await asyncio.to_thread(r.runtime.prompts.save, template(said), origin="api", author="ann")
        path = f"/v1/prompts/{PROMPT}/labels/staging"
        assert (await r.http.put(path, json={"version": 1}, headers={"if-none-match": "*"})).status_code == 200
        moving = True
        statuses: Counter[int] = Counter()
        seen: set[int] = set()
        told: set[tuple[str, str]] = set()  # which version an answer says it had, and what the engine heard

        async def ask() -> None:
            while moving:
                statuses[(await r.http.post(CHAT, json=chat("auto"))).status_code] += 1
                seen.add(now_at(r))

        async def ask_for_the_prompt(name: str) -> None:
            while moving:
                body = {"model": f"prompt:{PROMPT}@staging", "metadata": {"text": name}, "user": name}
                answer = await r.http.post(CHAT, json=body)
                statuses[answer.status_code] += 1
                heard = next(c.body for c in reversed(r.engines["large"].calls) if c.body.get("user") == name)
                told.add((answer.headers["x-prompt-version"], heard["messages"][0]["content"]))

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        asking += [asyncio.create_task(ask_for_the_prompt(f"client {n}")) for n in range(4)]
        at = 1
        for _ in range(MOVES):
            moved = await r.http.put(path, json={"version": 3 - at}, headers={"if-match": f'"{at}"'})
            assert moved.status_code == 200
            at = 3 - at
            assert now_at(r) == at  # who has moved it sees it at once
        moving = False
        await asyncio.gather(*asking)
    assert (set(statuses), seen) == ({200}, {1, 2})
    assert told == {("1", "a"), ("2", "b")}  # no answer is of one version and says another
    assert statuses[200] > MOVES


async def test_a_move_during_a_reload_is_not_undone_by_it(rig: OpenRig, database_url: str) -> None:
    async with rig(database_url=database_url) as r:
        store = r.runtime.prompts
        await asyncio.to_thread(store.save, template(), origin="api", author="ann")
        built = await r.builder.build(r.runtime.settings)
        await asyncio.to_thread(store.move_label, PROMPT, "staging", 1, expected=None, by=ANN)
        await r.builder.swap(built)
        assert now_at(r) == 1


async def test_an_empty_library_costs_one_row_a_second(rig: OpenRig) -> None:
    async with rig() as r:
        runtime = r.builder.runtime
        assert published_since(runtime.prompts, runtime.standing) is None
        assert runtime.library.versions == {}


async def test_a_gateway_ends_after_whoever_reads_its_database(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []
    epoch = LibraryStore.epoch

    def slow(store: LibraryStore) -> int:
        inside.append(True)
        time.sleep(0.5)
        found = epoch(store)
        inside.pop()
        return found

    async with rig():
        monkeypatch.setattr(LibraryStore, "epoch", slow)
        await until(lambda: bool(inside), SEEN_SECONDS)
    assert inside == []


def test_an_override_that_runs_out_changes_where_a_version_is_sent(store: LibraryStore) -> None:
    store.save(template(), origin="api", author="ann")
    with store.writing() as connection:
        store.set_policy_in(connection, Policy(labels={"production": LabelPolicy(gated=True, roles=("boss",))}))
    end = NOW + timedelta(hours=1)
    by, override = Who("boss", frozenset({"boss"})), Override("boss", "hurry", end)
    store.move_label(PROMPT, "production", 1, expected=None, by=by, override=override)
    first = publish(store, Standing(), lambda: NOW)
    assert first.standing.tiers == {f"{PROMPT}@1": {"small", "large"}}
    assert published_since(store, first.standing, lambda: end - timedelta(seconds=1)) is None
    with capture_logs() as logs:
        then = published_since(store, first.standing, lambda: end)
        assert then is not None
        assert publish(store, then.standing, lambda: end).standing == then.standing
    assert then.standing.tiers == {f"{PROMPT}@1": {"large"}}
    assert [(line["log_level"], "ran out" in line["says"]) for line in logs] == [("warning", True)]


async def test_another_build_serves_on_the_safe_tier_after_a_reload(rig: OpenRig) -> None:
    async with rig() as r:
        store = r.runtime.prompts
        await asyncio.to_thread(store.save, template(), origin="api", author="ann")
        await asyncio.to_thread(store.add_suite, PROMPT, SUITE, author="ann")
        await asyncio.to_thread(prove, store, template(), "small", "large")
        await asyncio.to_thread(store.move_label, PROMPT, "production", 1, expected=None, by=ANN)
        await r.builder.publish()
        version = r.builder.runtime.library.find(read_reference(PROMPT))
        assert r.builder.runtime.prompt_tiers(version) == {"small", "large"}
        catalog = r.runtime.settings.catalog
        catalog.write_text(catalog.read_text().replace("name: small\n", "name: small\n    served_as: other\n"))
        await r.builder.swap(await r.builder.build(r.runtime.settings))
        assert r.builder.runtime.prompt_tiers(version) == {"large"}


# Files.


async def test_files_are_taken_at_the_start_and_with_each_reload(
    rig: OpenRig, tmp_path: Path, database_url: str
) -> None:
    root = write(tmp_path / "prompts", FILES)
    async with managed(rig, prompts={"folder": root}, database_url=database_url) as r:
        assert {*r.builder.runtime.library.versions["a/b"]} == {1}
        write(root, {"a/b/b.prompt.yaml": FILE.replace("Say something", "Say more")})
        assert (await r.http.post("/admin/reload")).status_code == 200
        assert {*r.builder.runtime.library.versions["a/b"]} == {1, 2}


async def test_a_mistake_in_a_file_refuses_the_reload_by_file_and_line_and_what_was_serves(
    rig: OpenRig, tmp_path: Path
) -> None:
    root = write(tmp_path / "prompts", FILES)
    async with managed(rig, prompts={"folder": root}) as r:
        library = r.builder.runtime.library
        write(root, {"a/b/b.prompt.yaml": "messages: [\n"})
        refused = await r.http.post("/admin/reload")
        assert (refused.status_code, error_of(refused)["code"]) == (400, "invalid_settings")
        assert "a/b/b.prompt.yaml:2" in error_of(refused)["message"]
        assert r.builder.runtime.library is library


async def test_a_mistake_at_the_start_is_logged_and_the_records_serve(rig: OpenRig, tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", FILES)
    async with rig(prompts={"folder": root}):
        pass
    write(root, {"a/b/b.prompt.yaml": "messages: [\n"})
    with capture_logs() as logs:
        async with rig(prompts={"folder": root}) as r:
            assert {*r.builder.runtime.library.versions} == {"a/b"}
    assert "a/b/b.prompt.yaml:2" in next(line["error"] for line in logs if "folder of prompts" in line["event"])


async def test_a_version_with_two_contents_refuses_the_start(rig: OpenRig, tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", {**FILES, "prompts.lock": '{"a/b": {"version": 1, "digest": "other"}}'})
    async with rig() as r:
        other = write(tmp_path / "other", FILES)
        settings = r.runtime.settings.model_copy(update={"prompts": {}})
        await r.builder.build(settings.model_validate({**dict(r.runtime.settings), "prompts": {"folder": other}}))
        with pytest.raises(SettingsError, match=r"prompts\.lock and \w+ in .*pointsman\.db"):
            await r.builder.build(settings.model_validate({**dict(r.runtime.settings), "prompts": {"folder": root}}))


def test_nothing_of_a_clock_is_read_where_no_override_runs(store: LibraryStore) -> None:
    def never() -> datetime:
        raise AssertionError

    assert published_since(store, Standing(epoch=store.epoch()), never) is None
