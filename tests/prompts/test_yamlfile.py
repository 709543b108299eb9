"""Reading YAML: every mistake is told by line and key, and what a variable holds is filled in but never shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prompts.yamlfile import YamlError, YamlFile, parse_yaml, problems_in, read_yaml, shown

PATH = Path("x.yaml")


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tier: int = Field(ge=0)
    api_key_env: str = ""


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    port: int = Field(1, gt=0, le=9)
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}


def parse(text: str, **variables: str) -> YamlFile:
    return parse_yaml(PATH, text, variables)


def mistakes(text: str, **variables: str) -> list[str]:
    file = parse(text, **variables)
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(file.value)
    return file.tell_all(problems_in(Outer, refused.value)).splitlines()


def test_every_mistake_is_told_in_the_order_of_the_file() -> None:
    text = """port: 12
inner:
  tier: high
  teir: 1
many:
  - tier: 1
  - {tier: -1}
  -
    api_key: hunter2
named:
  one: {tier: 0, prot: 1}
prot: 1
"""
    assert mistakes(text) == [
        "x.yaml:1: port: 12: must be 9 or less",
        "x.yaml:3: inner.tier: 'high': Input should be a valid integer, unable to parse string as an integer",
        "x.yaml:4: inner.teir: not permitted here; did you mean tier?",
        "x.yaml:7: many.1.tier: -1: must be 0 or more",
        "x.yaml:9: many.2.tier: is required, and not there",
        "x.yaml:9: many.2.api_key: not permitted here; keys stay out of files: api_key_env names the environment "
        "variable that holds it",
        "x.yaml:11: named.one.prot: not permitted here; keys are: api_key_env, tier",
        "x.yaml:12: prot: not permitted here; did you mean port?",
    ]


def test_a_merged_key_is_told_where_it_is_written() -> None:
    assert mistakes("many:\n- &one\n  tier: 1\n  x: 1\n- {<<: *one, tier: 2}")[1].startswith("x.yaml:4: many.1.x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ("http://${A}:${B}/v1", "http://one:two/v1"),
        ("$${A}", "${A}"),
        ("$A $ {A}", "$A $ {A}"),
        ("'${A}'", "one"),
    ],
)
def test_a_variable_is_filled_in(text: str, value: str) -> None:
    assert parse(f"a: {{b: [{text!r}]}}" if "'" not in text else f"a: {{b: [{text}]}}", A="one", B="two").value == {
        "a": {"b": [value]}
    }


def test_without_variables_the_text_stays() -> None:
    assert parse_yaml(PATH, "a: ${A}", None).value == {"a": "${A}"}


def test_every_variable_that_is_not_set_is_told() -> None:
    with pytest.raises(YamlError) as refused:
        parse("a: ${A}\nb: [x, '${B}-${C}']\nc: ${not a name}", A="", C="there")
    assert str(refused.value).splitlines() == [
        "x.yaml:1: a: the environment variable A is not set; set it, or write $${A} for the text itself",
        "x.yaml:2: b.1: the environment variable B is not set; set it, or write $${B} for the text itself",
        "x.yaml:3: c: ${not a name} is not the name of an environment variable: letters, digits and _ only",
    ]


def test_what_a_variable_holds_is_not_shown() -> None:
    assert mistakes("port: ${SECRET}", SECRET="hunter2") == [
        "x.yaml:1: port: ${SECRET}: Input should be a valid integer, unable to parse string as an integer"
    ]


def test_a_wrong_value_is_shown_short_and_without_a_login() -> None:
    assert shown("x" * 1000) == "'" + "x" * 79 + "..."
    assert "hunter2" not in shown("redis//://user:hunter2@host/0")
    assert shown(None) == "nothing"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml:1: a: is there again on line 3; keep one"),
        ("a:\n  b: {c: 1,\n   c: 1}", "x.yaml:2: a.b.c: is there again on line 3; keep one"),
        ("a: 'open", "not valid YAML"),
        ("a: *nobody", "x.yaml:1: not valid YAML"),
        ("a: 1\n\tb: 2", "x.yaml:2: not valid YAML"),
        ("a: !!python/object:os.system {}", "x.yaml:1: not valid YAML"),
        ("a: 2024-13-45", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ("a: 1\n---\nb: 1", "not valid YAML"),
        ("[" * 100_000, "x.yaml:1: not valid YAML: more than 64 levels deep"),
    ],
)
def test_what_is_not_yaml_is_refused_by_line(text: str, told: str) -> None:
    with pytest.raises(YamlError) as refused:
        parse(text)
    assert told in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(YamlError, match="not valid YAML: not UTF-8 at byte 3"):
        read_yaml(tmp_path / "x.yaml")


def test_a_file_that_names_itself_ends() -> None:
    assert parse("&a [*a, '${A}']", A="one").value[1] == "one"


@given(st.lists(st.sampled_from("abcde"), unique=True, min_size=1))
def test_a_key_is_on_its_line(keys: list[str]) -> None:
    file = parse("".join(f"{key}:\n  - 1\n  - x: 2\n" for key in keys))
    for place, key in enumerate(keys):
        assert file.line((key,)) == 3 * place + 1
        assert file.line((key, 0)) == 3 * place + 2
        assert file.line((key, 1, "x")) == 3 * place + 3
        assert file.line((key, 1, "not there")) == 3 * place + 3
        assert file.has((key, 1, "x"))
        assert not file.has((key, 1, "y"))
        assert not file.has((key, 2))
