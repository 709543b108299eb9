"""Loading a folder: all of it or nothing, and everything that is wrong is told by file, line and column."""

import os
from pathlib import Path

import pytest

from prompts.folder import load
from prompts.reading import MOST_LEVELS, LoadRefused
from prompts.template import Hold, Placeholder, Text
from tests.prompts.trees import FILES, LIBRARY, PROMPT, faults, write

PATH = "a/b/b.prompt.yaml"


def test_a_folder_says_templates_their_suites_and_what_holds_for_all() -> None:
    folder = load(LIBRARY)
    assert sorted(folder.prompts) == ["chat/tutor", "extract/order", "support/triage"]
    assert folder.policy.tiers == ("small", "medium", "large")
    assert folder.policy.labels["production"].gated
    assert folder.policy.labels["production"].roles == ("admin",)
    prompt = folder.prompts["support/triage"]
    template = prompt.template
    assert prompt.tests == LIBRARY / "support/triage/tests.yaml"
    assert prompt.cases is None
    assert template.routing.hold is Hold.NONE
    assert template.routing.stratify_by == ("product",)
    assert template.parameters_of("small") == {"temperature": 0, "max_tokens": 4}
    assert template.locked == {"temperature"}
    assert template.partials == {
        "voice": 'You are exact and brief.\n{% include "style/plain" %}',
        "style/plain": "Write {{ language }}, in plain words.",
    }
    assert folder.prompts["chat/tutor"].template.messages[1] == Placeholder()
    assert folder.prompts["extract/order"].template.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "order", "schema": {"type": "object"}},
    }


def test_a_yes_is_a_word_and_a_postcode_is_a_text(tmp_path: Path) -> None:
    said = PROMPT.replace("default: calm", "enum: [yes, no, 01234, 2024-01-01], default: no")
    schema = load(write(tmp_path, {**FILES, PATH: said})).prompts["a/b"].template.inputs["properties"]["tone"]
    assert schema["enum"] == ["yes", "no", "01234", "2024-01-01"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("description:", "descripton:", "2:1: descripton: not permitted here; did you mean description?"),
        ("role: user", "role: usr", "14:5: messages.1.role: 'usr': must be one of: "),
        ("{{ tone }}", "{{ tune }}", "13:13: messages.0.content: 'tune' is no variable of inputs; did you mean tone?"),
        ("Be {{ tone }}", "Be {{ tone", "13:17: messages.0.content: syntax error"),
        ('"{{ text }}"', '"{{ text }} {% if %}"', "15:32: messages.1.content: syntax error"),
        (
            "Be {{ tone }}",
            "Be {{ text }}",
            "13:13: messages.0.content: 'text' is untrusted, and stands in",
        ),
        ('"voice"', '"voise"', "12:7: messages.0.content: there is no partial 'voise'; did you mean voice?"),
        ('include "voice"', "include tone", "12:7: messages.0.content: a template reads nothing but partials"),
        ('include "voice"', 'import "voice" as v', "12:7: messages.0.content: a template reads nothing but partials"),
        ("default: calm", "default: 5", "8:26: inputs.properties.tone.default: is not what inputs say"),
        ("type: string, x-un", "type: strung, x-un", "7:12: inputs.properties.text.type: is not a JSON Schema"),
        (
            "type: string, x-un",
            "$ref: 'http://x/y', x-un",
            "7:12: inputs.properties.text.$ref: refers to 'http://x/y'; a schema may refer to its own parts only",
        ),
        ("  type: object", "  type: object\n  additionalProperties: true", "5:3: inputs.additionalProperties: must be"),
        ("static}", "weekly}", "8:41: inputs.properties.tone.x-volatility: must be one of static"),
        ("tone", "loop", "8:5: inputs.properties.loop: is a word of the template language"),
        ("{{ tone }}", "{{ tone|shout }}", "13:7: messages.0.content: unknown filter: filter shout is unknown"),
        ("name: a/b", "name: a/c", "1:1: name: 'a/c': the folder says a/b"),
        ("name: a/b", "name: a/b\nname: a/b", "1: name: is there again on line 2; keep one"),
        ("name: a/b", "modelParameters: {temprature: 0}", "1:19: modelParameters.temprature: is no parameter"),
        ("name: a/b", "routing: {stratify_by: [tome]}", "1:25: routing.stratify_by.0: 'tome' is no variable"),
        ("name: a/b", "testData: []", "1:1: testData: tests are in tests.yaml"),
        ("name: a/b", "name: [a", "2:12: not valid YAML"),
        ("name: a/b", "name: &a b\nmodel: *a", "1:7: an alias (*name) is not permitted here"),
        ("name: a/b", "name: !!python/name:os.system x", "1:7: the tag python/name:os.system is not permitted here"),
        ("name: a/b", "name: a/b\n---\nx: 1", "2:1: not valid YAML"),
        ("name: a/b", f"model: {'9' * 20}", "1:8: has more than 64 bits"),
    ],
)
def test_what_is_wrong_is_told_by_file_line_and_column(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in PROMPT
    [first, *_] = faults(tmp_path, {PATH: PROMPT.replace(old, new)})
    assert first.startswith(f"{PATH}:{told}")


def test_all_that_is_wrong_is_told_at_once_in_order(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        {
            PATH: PROMPT.replace("{{ tone }}", "{{ tune }}").replace("{{ text }}", "{{ txt }}"),
            "c/d/d.prompt.yaml": "messages: []\nmodle: x\n",
            "_partials/bad.md": "fine\n{{ ",
            "library.yaml": "tires: []",
        },
    )
    assert [line.split(" ")[0] for line in told] == [
        "_partials/bad.md:2:1:",
        f"{PATH}:13:13:",
        f"{PATH}:15:18:",
        "c/d/d.prompt.yaml:2:1:",
        "library.yaml:1:1:",
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a/b/test.yaml", "is no file of a prompt"),
        ("a/b/b.prompt.yml", "is no file of a prompt"),
        ("c.prompt.yaml", "a prompt is a folder with its name"),
        ("c/tests.yaml", "there is no c.prompt.yaml beside it"),
        ("a/b/c.prompt.yaml", "a variant is called b.TIER.prompt.yaml"),
        ("a/b/b.Big.prompt.yaml", "'Big' is no tier"),
        ("a/b/b.base.prompt.yaml", "'base' is no tier"),
        ("A/A.prompt.yaml", "'A' is no name of a prompt"),
        ("_partials/x.html", "is no partial"),
        ("_partials/voice.txt", "there are two partials 'voice'"),
    ],
)
def test_a_file_that_nobody_would_read_is_told(tmp_path: Path, name: str, told: str) -> None:
    assert told in "\n".join(faults(tmp_path, {name: "modelParameters: {seed: 1}"}))


def test_what_is_no_prompt_is_left_alone(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "README.md": "x",
        ".git/config.yaml": "x",
        "a/b/picture.png": b"\xff",
        "prompts.lock": "x",
    }
    assert list(load(write(tmp_path, {**FILES, **files})).prompts) == ["a/b"]


def test_a_variant_has_messages_and_parameters_only(tmp_path: Path) -> None:
    [told] = faults(tmp_path, {"a/b/b.small.prompt.yaml": "messages: []\ninputs: {}"})
    assert told.startswith("a/b/b.small.prompt.yaml:2:1: inputs: not permitted here")


def test_a_tier_that_the_library_does_not_have_is_told(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        {
            "library.yaml": "tiers: [small, large]",
            PATH: PROMPT + "routing: {tiers: [small, huge]}\n",
            "c/c.prompt.yaml": "messages: [{role: user, content: x}]",
            "c/c.tiny.prompt.yaml": "modelParameters: {seed: 1}",
        },
    )
    assert told[0].startswith(f"{PATH}:16:26: routing.tiers.1: 'huge' is no tier; library.yaml has small, large")
    assert told[1].startswith("c/c.tiny.prompt.yaml: 'tiny' is no tier: tiers are small, large")


def test_partials_in_a_circle_are_refused_by_name(tmp_path: Path) -> None:
    circle = {"_partials/voice.md": '\n {% include "x" %}', "_partials/x.md": '{% include "voice" %}'}
    [told] = faults(tmp_path, circle)
    assert told == "_partials/x.md:1:1: partials include each other in a circle: voice -> x -> voice; take one out"


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    [told] = faults(tmp_path, {PATH: bomb})
    assert "an alias (*name) is not permitted here" in told


def test_a_file_has_a_limit_in_size_and_depth(tmp_path: Path) -> None:
    deep = "x: " + "[" * 100
    told = faults(tmp_path, {PATH: "#" * 300_000, "_partials/long.md": "x" * 70_000, "c/c.prompt.yaml": deep})
    assert [line.split(": ", 1)[1][:24] for line in told] == [
        "has more than 65,536 byt",
        "has more than 262,144 by",
        "not valid YAML: more tha",
    ]


def test_folders_have_a_limit_in_depth(tmp_path: Path) -> None:
    deep = "/".join(["d"] * MOST_LEVELS)
    [told] = faults(tmp_path, {f"{deep}/d.prompt.yaml": ""})
    assert "folders deep; move it up" in told


def test_what_is_not_utf_8_is_told(tmp_path: Path) -> None:
    [told] = faults(tmp_path, {PATH: b"name: \xff"})
    assert told == f"{PATH}: is not UTF-8 at byte 6; save it as UTF-8"


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "c.prompt.yaml").write_text("messages: [{role: user, content: secret}]")
    root = write(tmp_path / "root", FILES)
    (root / "c").symlink_to(secret)
    (root / "_partials/out.md").symlink_to(secret / "c.prompt.yaml")
    (root / "gone").symlink_to(root / "nowhere")
    with pytest.raises(LoadRefused) as refused:
        load(root)
    assert [fault.says.partition(";")[0] for fault in refused.value.faults] == [
        "is a link that leads out of the folder",
        "is a link that leads out of the folder",
        "is a link that leads nowhere",
    ]


def test_a_link_within_the_folder_is_read_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    root = write(tmp_path, {f"..data/{name}": said for name, said in FILES.items()})
    for name in ("a", "_partials"):
        (root / name).symlink_to(f"..data/{name}")
    assert list(load(root).prompts) == ["a/b"]


def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a").symlink_to(tmp_path)
    assert "folders deep" in faults(tmp_path, {})[0]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c/c.prompt.yaml")
    [told] = faults(tmp_path, {})
    assert told == "c/c.prompt.yaml: is no regular file; take it out"


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")


def test_what_a_template_is_does_not_hang_on_how_its_file_is_written(tmp_path: Path) -> None:
    """The order of keys, the style of YAML, the ends of lines and the editor's last newline do not count; texts do."""
    other = """\
messages: [{"content": '{% include "voice" %}

    Be {{ tone }}.

    ', role: system}, {role: user, content: '{{ text }}'}]
inputs: {properties: {tone: {x-volatility: static, default: calm, type: string},
  text: {x-untrusted: True, type: string}}, required: [text], type: object, additionalProperties: false}
description: "Say something"
"""
    one = load(write(tmp_path / "1", FILES)).prompts["a/b"].template
    two = load(write(tmp_path / "2", {PATH: other, "_partials/voice.md": "You are brief."})).prompts["a/b"].template
    windows = {name: said.replace("\n", "\r\n") for name, said in FILES.items()}
    three = load(write(tmp_path / "3", windows)).prompts["a/b"].template
    another = {**FILES, "_partials/voice.md": "You are not brief.\n"}
    four = load(write(tmp_path / "4", another)).prompts["a/b"].template
    assert isinstance(one.messages[0], Text)
    assert one.digest == two.digest == three.digest != four.digest
