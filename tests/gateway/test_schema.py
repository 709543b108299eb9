"""What a request must look like: each mistake is the client's, is named, and is charged once as refused."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.from_thread
import httpx2
import orjson
import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest, ModelNotFound
from gateway.schema import CHOICES_LIMIT, FORBIDDEN, MESSAGES_LIMIT, STOP_LIMIT, TOP_LOGPROBS_LIMIT, parse_chat
from models.catalog import Catalog, Model
from tests.gateway.wire import CHAT, USER, OpenRig, chat, error_of
from tests.rig import Rig, running_rig


def row(name: str, tier: int) -> Model:
    return Model(name=name, engine="scripted", tier=tier, context_tokens=100)


CATALOG = Catalog({"small": row("small", 0), "large": row("large", 1)}, {"gpt-4o-mini": "auto", "gpt-4o": "large"})

NOT_JSON = {
    "nothing": b"",
    "no JSON": b"{",
    "two documents": b"{}{}",
    "NaN": b'{"model": "large", "messages": [], "temperature": NaN}',
    "Infinity": b'{"seed": Infinity}',
    "a number beyond every float": b'{"temperature": 1e999}',
    "100,000 levels": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 open brackets": b"[" * 100_000,
    "no UTF-8": b'{"model": "\xff"}',
    "a surrogate alone": b'{"model": "\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "an array": b"[]",
    "a string": b'"large"',
    "null": b"null",
}
# a wrong field -> the param that the error names
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 1}, "model"),
    ({"model": ["large"]}, "model"),
    ({"model": "x" * 257}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": ["hello"]}, "messages[0]"),
    ({"messages": [USER, None]}, "messages[1]"),
    ({"messages": [USER] * (MESSAGES_LIMIT + 1)}, "messages"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "owner", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages[0].content"),
    ({"stream": "true"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": True}, "stream_options"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": CHOICES_LIMIT + 1}, "n"),
    ({"n": 10**18}, "n"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"top_logprobs": TOP_LOGPROBS_LIMIT + 1}, "top_logprobs"),
    ({"stop": 1}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop": ["x"] * (STOP_LIMIT + 1)}, "stop"),
    ({"seed": "7"}, "seed"),
    ({"tools": {}}, "tools"),
    ({"tools": ["search"]}, "tools[0]"),
    ({"response_format": "json"}, "response_format"),
    *(({field: 1}, field) for field in sorted(FORBIDDEN)),
    *(({field: None}, field) for field in sorted(FORBIDDEN)),
]


def parse(**fields: Any) -> Any:
    return parse_chat(orjson.dumps({**chat(), **fields}), CATALOG)


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_no_json_object_is_refused_as_such(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat(raw, CATALOG)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.param == param
    assert param.split(".")[0] in refused.value.message


def test_a_missing_field_is_refused_by_name() -> None:
    for missing in ("model", "messages"):
        with pytest.raises(InvalidRequest) as refused:
            parse_chat(orjson.dumps({key: value for key, value in chat().items() if key != missing}), CATALOG)
        assert refused.value.param == missing


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": role, "content": content}]}
        for role in ("system", "developer", "user", "assistant", "tool", "function")
        for content in (None, "", [{"type": "text", "text": "x"}], [])
    ]
    + [
        {"messages": [{"role": "assistant", "tool_calls": []}]},
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 1},
        {"n": CHOICES_LIMIT},
        {"stop": "x"},
        {"stop": []},
        {"stop": None},
        {"max_tokens": None},
        {"tools": []},
        {"seed": -1},
        {"stream": None, "stream_options": None},
        {"a field of tomorrow": {"any": ["thing"]}},
    ],
    ids=str,
)
def test_what_the_protocol_allows_is_taken_and_passed_on_as_it_came(fields: dict[str, Any]) -> None:
    assert parse(**fields).body == {**chat(), **fields}


@pytest.mark.parametrize(
    ("asked", "target"), [("auto", "auto"), ("small", "small"), ("gpt-4o-mini", "auto"), ("gpt-4o", "large")]
)
def test_a_name_means_what_the_catalogue_says(asked: str, target: str) -> None:
    request = parse(model=asked)
    assert (request.name, request.target) == (asked, target)


@pytest.mark.parametrize(
    ("asked", "nearest"), [("Large", "large"), ("smal", "small"), ("atuo", "auto"), ("zzz", None), ("\n", None)]
)
def test_an_unknown_model_is_answered_with_those_served_and_the_nearest(asked: str, nearest: str | None) -> None:
    with pytest.raises(ModelNotFound) as refused:
        parse(model=asked)
    assert (refused.value.status, refused.value.param) == (404, "model")
    assert "served: auto, small, large" in refused.value.message
    assert (f"did you mean {nearest!r}" if nearest else "served") in refused.value.message
    assert ("did you mean" in refused.value.message) == (nearest is not None)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    with contextlib.suppress(InvalidRequest, ModelNotFound):
        parse_chat(raw, CATALOG)


@pytest.mark.anyio
async def test_every_mistake_is_a_4xx_in_openais_shape_and_one_charge(rig: OpenRig) -> None:
    bodies = [*NOT_JSON.values(), *(orjson.dumps({**chat(), **fields}) for fields, _ in WRONG)]
    bodies.append(orjson.dumps(chat("nobody")))
    async with rig() as r:
        responses = await asyncio.gather(*(r.http.post(CHAT, content=body) for body in bodies))
        for body, response in zip(bodies, responses, strict=True):
            assert response.status_code == (404 if b"nobody" in body else 400), body[:200]
            error_of(response)
        rows = await r.charges(len(bodies))
        assert {row["outcome"] for row in rows} == {"refused"}
        assert {row["cost_nano_usd"] for row in rows} == {None}, "no model was called"
        assert r.engines["large"].calls == []


class Served:
    """A gateway that runs in another thread, for examples that arrive one after the other."""

    def __init__(self, rig: Rig, portal: BlockingPortal) -> None:
        self._rig = rig
        self._portal = portal

    def post(self, content: bytes) -> httpx2.Response:
        async def post() -> httpx2.Response:
            return await self._rig.http.post(CHAT, content=content)

        return self._portal.call(post)

    def charges(self) -> int:
        self._portal.call(self._rig.runtime.ledger.flush)
        return self._rig.runtime.ledger.count()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Rig, None]:
        async with running_rig(tmp_path_factory.mktemp("served")) as running:
            yield running

    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(opened()) as running,
    ):
        yield Served(running, portal)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    ["model", "messages", "stream", "stream_options", "max_tokens", "n", "stop", "tools", "response_format", "x"]
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "tool", "x"])}, optional={"content": anything}
)
nearly_a_request = st.builds(
    lambda odd, messages: {**chat(), **({"messages": messages} if messages else {}), **odd},
    st.dictionaries(fields, anything, max_size=3),
    st.lists(message, max_size=4),
)


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"a": inner}
    return inner


@settings(max_examples=60)
@given(st.binary(max_size=200) | anything.map(orjson.dumps) | nearly_a_request.map(orjson.dumps))
@example(orjson.dumps(chat(tools=[nested(200)])))
@example(orjson.dumps(chat())[:-1] + b', "tools": [' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"]}")
@example(orjson.dumps(chat(response_format={"type": "\u0000"}, user="\u0000")))
def test_whatever_a_client_sends_is_never_our_fault_and_charged_once(served: Served, content: bytes) -> None:
    before = served.charges()
    response = served.post(content)
    assert response.status_code < 500
    if response.status_code >= 400:
        error_of(response)
    assert served.charges() == before + 1
