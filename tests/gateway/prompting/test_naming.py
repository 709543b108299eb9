"""How a prompt is named: whatever agrees is one reference, in whichever places of a request it stands."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, InvalidRequest
from gateway.prompting.naming import FIELDS, HEADERS, names_prompt, naming_of
from prompts.reference import reference

IDS = st.sampled_from(["a", "support/triage", "pmpt_68a1"])
VERSIONS = st.sampled_from([None, "7", "staging", "latest"])
PLACES = ("object", "object by its other name", "field", "model", "header")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def written(place: str, id: str, version: str | None) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    said = {} if version is None else {"version": version}
    match place:
        case "object":
            return {"prompt": {"id": id, **said}}, {}
        case "object by its other name":
            return {"prompt": {"prompt_id": id, **said}}, {}
        case "field":
            return {"prompt_id": id, "prompt_version": version}, {}
        case "model":
            return {"model": f"prompt:{id}" if version is None else f"prompt:{id}@{version}"}, {}
        case _:
            headers = {b"x-prompt-id": id.encode()}
            return {}, headers if version is None else {**headers, b"x-prompt-version": version.encode()}


@given(places=st.sets(st.sampled_from(PLACES), min_size=1), id=IDS, version=VERSIONS)
def test_every_place_means_the_same(places: set[str], id: str, version: str | None) -> None:
    body: dict[str, Any] = {}
    headers: dict[bytes, bytes] = {}
    for place in places:
        more, named = written(place, id, version)
        body, headers = {**body, **more}, {**headers, **named}
    assert names_prompt(body, headers)
    assert naming_of(body, headers).reference == reference(id, version)


@given(one=st.sampled_from(PLACES), other=st.sampled_from(PLACES), id=IDS, versions=st.permutations(["7", "8"]))
def test_two_versions_are_never_one(one: str, other: str, id: str, versions: list[str]) -> None:
    first, second = written(one, id, versions[0]), written(other, id, versions[1])
    body, headers = {**first[0], **second[0]}, {**first[1], **second[1]}
    if not (first[0].keys() & second[0].keys() or first[1].keys() & second[1].keys()):
        with pytest.raises(InvalidRequest, match="the version of the prompt is said twice"):
            naming_of(body, headers)


@given(
    body=st.dictionaries(st.sampled_from([*FIELDS, "model", "metadata"]), JSON | st.fixed_dictionaries({"id": JSON})),
    headers=st.dictionaries(st.sampled_from(sorted(HEADERS)), st.binary(max_size=9)),
)
def test_whatever_is_written_is_a_name_or_a_clear_error(body: dict[str, Any], headers: dict[bytes, bytes]) -> None:
    if names_prompt(body, headers) and (error := refused(body, headers)) is not None:
        assert error.status in (400, 404)
        assert error.param


def refused(body: dict[str, Any], headers: dict[bytes, bytes]) -> GatewayError | None:
    try:
        naming_of(body, headers)
    except GatewayError as error:
        return error
    return None


@given(body=st.dictionaries(st.sampled_from(["messages", "metadata", "variables", "prompt_variables"]), JSON))
def test_what_names_none_names_none(body: dict[str, Any]) -> None:
    assert not names_prompt({**body, "model": "prompts", "prompt": None, "prompt_id": None}, {b"x-prompt": b"a"})
