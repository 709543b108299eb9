"""Files to the database and back, labels and the gate: no command gets a version past a bar that it does not hold."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from shutil import rmtree

from sqlalchemy import insert

from gateway.cli.prompts.published import library_store
from gateway.ledger.database import open_database
from gateway.ledger.tables import charges
from gateway.settings import load_settings
from prompts.folder import load
from prompts.reference import reference
from prompts.template import Text
from tests.gateway.cli.prompts.world import PROMPT, World, wrong_on
from tests.prompts.trees import write

NEW = PROMPT.replace("Say a or b.", "Say a or b, and nothing else.")


def test_a_version_that_has_passed_is_promoted_and_one_that_has_not_is_refused(world: World) -> None:
    world.run("push")
    said = world.run("promote", "sort", "1", "--role", "owner", code=1)
    assert "no receipt: the suite was not run on this tier" in said
    assert "pointsman prompts test sort" in " ".join(said.split())
    world.run("test", "sort")
    said = world.run("promote", "sort", "latest", "--role", "owner")
    assert re.search(r"small +all +20/20 +0\.86 +0\.8 +yes", said), said
    assert "sort: production is version 1" in said
    assert re.search(r"sort +1 +production +small, large", world.run("status"))


def test_receipts_of_before_the_version_was_saved_are_taken_by_push(world: World) -> None:
    world.run("test", "sort")
    assert "2 receipts" in world.run("push")
    assert "nothing is new" in world.run("push")
    world.run("promote", "sort", "1", "--role", "owner")


def test_a_tier_that_fails_can_be_left_out_and_is_then_never_sent_to(world: World) -> None:
    world.plays["small"] = wrong_on(*range(10))
    world.run("test", "sort", code=1)
    world.run("push")
    world.run("promote", "sort", "1", "--role", "owner", code=1)
    assert "without small" in world.run("promote", "sort", "1", "--exclude", "small", "--role", "owner")
    assert re.search(r"sort +1 +production +large +small", world.run("status"))
    assert "cannot be excluded" in world.run("promote", "sort", "1", "--exclude", "large", "--role", "owner", code=1)


def test_an_override_needs_a_role_a_reason_and_an_end_and_is_in_the_history(world: World) -> None:
    world.run("push")
    command = ("promote", "sort", "1", "--override", "the shop burns")
    assert "needs all three" in world.run(*command, code=1)
    assert "write a day" in world.run(*command, "--until", "soon", "--role", "owner", code=1)
    assert "moved by owner" in world.run(*command, "--until", "3d", "--role", "guest", code=1)
    assert "past the gate until" in world.run(*command, "--until", "3d", "--role", "owner")
    said = " ".join(world.run("history", "sort").split())
    assert "the shop" in said
    assert "burns" in said


def test_a_version_that_has_not_passed_is_not_tried_either(world: World) -> None:
    world.run("test", "sort")
    world.run("push")
    world.run("promote", "sort", "1", "--role", "owner")
    (world.prompts / "sort/sort.prompt.yaml").write_text(NEW)
    world.run("push")
    said = world.run("canary", "sort@2", "--role", "owner", code=1)
    assert "sort@2 may not be tried: run pointsman prompts test sort" in " ".join(said.split())
    assert "no valid receipt" in said
    world.run("test", "sort")
    world.run("push")
    assert "moved by owner" in world.run("canary", "sort@2", code=1)
    said = " ".join(world.run("canary", "sort@2", "--role", "owner", "-m", "cheaper").split())
    assert "sort: production tries version 2 on small, widening with 5% of its requests" in said
    said = " ".join(world.run("history", "sort").split())
    assert "cheaper" in said


def test_a_label_without_a_gate_moves_and_rolls_back(world: World) -> None:
    world.run("push")
    (world.prompts / "sort/sort.prompt.yaml").write_text(NEW)
    assert "new sort@2" in world.run("push")
    world.run("promote", "sort", "1", "--label", "staging")
    world.run("promote", "sort", "2", "--label", "staging", "-m", "shorter")
    assert "staging is version 1 (was 2)" in world.run("rollback", "sort", "--label", "staging")
    said = world.run("history", "sort", "--label", "staging")
    assert re.search(r"staging +1 to 2 .* shorter", said), said
    assert "has no version 7" in world.run("promote", "sort", "7", "--label", "staging", code=1)


def test_an_edit_makes_receipts_stale_and_status_says_what_changed(world: World) -> None:
    world.run("test", "sort")
    world.run("push")
    (world.prompts / "sort/sort.prompt.yaml").write_text(NEW)
    world.run("push")
    said = " ".join(world.run("status", "sort").split())
    assert "sort@2: large, all: no valid receipt: template changed since r_" in said
    assert "sort@2: small" not in said, "what the small tier is told has not changed"


def edited_elsewhere(said: str) -> None:
    """Somebody saves a version by another door."""
    with library_store(load_settings()) as store:
        template = store.library().find(reference("sort", 1)).template
        changed = replace(template, messages=(Text("system", said), template.messages[1]))
        store.save(changed, origin="api", author="ann")


def test_what_is_newer_in_the_database_is_pulled_into_the_files(world: World) -> None:
    world.run("push")
    edited_elsewhere("Say a.")
    assert "pointsman prompts pull sort@2" in " ".join(world.run("push").split())
    said = world.run("pull", "sort")
    assert "sort@2 is in prompts/sort" in said
    assert load(world.prompts).prompts["sort"].template.messages[0] == Text("system", "Say a.")
    assert set(load(world.prompts).prompts["sort"].template.variants) == {"small"}
    assert "nothing is new" in world.run("push")
    assert "20 cases" in world.run("test", "sort", "--mock"), "its tests are still there"


def test_what_is_not_in_the_folder_is_pulled_with_its_tests_and_partials(world: World) -> None:
    path = world.prompts / "sort/sort.prompt.yaml"
    write(world.prompts, {"_partials/how.md": "Be brief.\n"})
    path.write_text(PROMPT.replace("Say a or b.", "Say a or b. {% include 'how' %}"))
    world.run("push")
    digest = load(world.prompts).prompts["sort"].template.digest
    rmtree(world.prompts / "sort")
    rmtree(world.prompts / "_partials")
    world.run("pull")
    assert load(world.prompts).prompts["sort"].template.digest == digest
    assert "20 cases" in world.run("test", "sort", "--mock")
    assert "nothing is newer" in world.run("pull")
    assert "there is no prompt 'nobody'" in world.run("pull", "nobody", code=1)


def test_a_partial_that_others_include_is_not_written_over(world: World) -> None:
    write(world.prompts, {"_partials/how.md": "Be brief.\n"})
    path = world.prompts / "sort/sort.prompt.yaml"
    including = PROMPT.replace("Say a or b.", "Say a or b. {% include 'how' %}")
    path.write_text(including)
    world.run("push")
    write(world.prompts, {"_partials/how.md": "Be long.\n"})
    write(world.prompts, {"other/other.prompt.yaml": including.replace("name: sort", "name: other")})
    world.run("push")
    assert "which other prompts include" in " ".join(world.run("pull", "sort@1", code=1).split())


def test_what_both_sides_have_changed_is_a_conflict_until_somebody_says_which(world: World) -> None:
    world.run("push")
    edited_elsewhere("Say a.")
    (world.prompts / "sort/sort.prompt.yaml").write_text(NEW)
    assert "conflict sort: changed on both sides" in " ".join(world.run("push", code=1).split())
    assert "it is files or records" in world.run("push", "--keep", "mine", code=1)
    assert "new sort@3" in world.run("push", "--keep", "files")


def test_pull_keeps_files_that_say_what_the_database_does_not_have(world: World) -> None:
    world.run("push")
    path = world.prompts / "sort/sort.prompt.yaml"
    path.write_text(NEW)
    assert "push it first, or --force" in " ".join(world.run("pull", "sort", code=1).split())
    assert path.read_text() == NEW
    world.run("pull", "sort", "--force")
    assert "nothing is another" in world.run("diff", "sort")


def test_diff_tells_text_tokens_and_money_at_the_traffic_that_the_ledger_has(world: World) -> None:
    world.run("push")
    (world.prompts / "sort/sort.prompt.yaml").write_text(NEW)
    said = world.run("diff", "sort")
    assert "+Say a or b, and nothing else." in said
    assert "no traffic recorded" in said
    key = load(world.prompts).prompts["sort"].template.key
    at = datetime.now(UTC) - timedelta(days=2)
    row = {"at": at, "template": key, "model": "large", "prompt_tokens": 100, "cached_tokens": 50, "total_seconds": 1.0}
    row |= {"attempts": 1, "outcome": "answered", "streamed": False}
    database = open_database(load_settings().database)
    with database.begin() as connection:
        connection.execute(insert(charges), [{"id": str(n), **row} for n in range(1000)])
    database.dispose()
    said = world.run("diff", "sort")
    delta = int(re.search(r"about \+(\d+) tokens a call on large", said)[1])  # type: ignore[index]
    assert "about +0 tokens a call on small" in said
    shown = re.search(r"large +500\.0 +50% +\+\d+ +\+([0-9.]+)", said)
    assert shown is not None, said
    assert float(shown[1]) == round(500 * delta * 1e-6, 6), "1 USD a million tokens, cached or not"
    assert "tokens a call on large" in world.run("diff", "sort", "1", "file", "--tokens")
    assert "has no version 9" in world.run("diff", "sort", "9", code=1)


def test_lint_notes_what_differs_from_a_label(world: World) -> None:
    world.run("push")
    world.run("promote", "sort", "1", "--label", "staging")
    assert json.loads(world.run("lint", "--json", "--against", "staging"))["findings"] == []
    (world.prompts / "sort/sort.prompt.yaml").write_text(NEW)
    [finding] = json.loads(world.run("lint", "--json", "--against", "staging"))["findings"]
    assert finding["code"] == "changed"


def test_a_policy_that_newly_gates_a_label_moves_nothing_and_push_and_status_say_so(world: World) -> None:
    policy = world.prompts / "library.yaml"
    world.run("push")
    world.run("promote", "sort", "1", "--label", "staging")
    assert "alarm" not in world.run("status")
    policy.write_text(policy.read_text().replace("staging: {}", "staging: {gated: true}"))
    said = " ".join(world.run("push").split())
    assert "alarm sort@1 is staging, and small has not shown all: no receipt" in said
    assert "it stays there, and is sent to large alone" in said
    assert "alarm" not in world.run("push"), "once is enough; status has it"
    shown = world.run("status")
    assert re.search(r"sort +1 +staging \(not proved\) +large", shown), shown
    assert "alarm sort@1 is staging" in shown
    world.run("test", "sort")
    assert "not proved" not in world.run("status")


def test_a_bar_that_is_raised_does_the_same(world: World) -> None:
    world.run("test", "sort")
    world.run("push")
    world.run("promote", "sort", "1", "--role", "owner")
    tests = world.prompts / "sort/tests.yaml"
    tests.write_text(tests.read_text().replace("default: 0.8", "default: 0.9"))
    assert "alarm sort@1 is production, and small has not shown all" in world.run("push")
    assert re.search(r"sort +1 +production \(not proved\) +large", world.run("status"))
    assert "alarm" not in world.run("push")
