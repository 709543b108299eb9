"""The door: who comes in, how large a body may be, and that every answer has an id and OpenAI's shape."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI, AuthenticationError

from gateway import logs
from gateway.guard import _is_loopback
from tests.gateway.wire import CHAT, OpenRig, chat, connection, error_of, raw_response
from tests.rig import Rig

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20
FIFTY_MEBIBYTES = 50 * MEBIBYTE
OPEN_PATHS = ["/livez", "/readyz", "/health"]
KEYED = [("POST", CHAT), ("POST", "/v1/decision"), ("GET", "/v1/models"), ("GET", "/v1/models/small"), ("GET", "/no")]

ODD_AUTHORIZATIONS = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Basic cG06cG0=",
    b"Bearer \xff\xfecaf\xe9",
    b"Bearer \xc3\xa9\xc3\xa9",
    b"\xff",
    b"Bearer " + b"x" * 5000,
    b"bearer pm-wrong",
]
NO_LENGTHS = ["-1", "1e3", "0x10", "9" * 5000, "1, 1", "\u00b2"]
NOT_THERE = [
    ("GET", "/v2/chat/completions", 404, "not_found"),
    ("POST", CHAT + "/", 404, "not_found"),
    ("GET", "/", 404, "not_found"),
    ("GET", "/%00%ff/..//x", 404, "not_found"),
    ("GET", CHAT, 405, "method_not_allowed"),
    ("PUT", CHAT, 405, "method_not_allowed"),
    ("OPTIONS", CHAT, 405, "method_not_allowed"),
    ("POST", "/v1/models", 405, "method_not_allowed"),
    ("GET", "/v1/models/nobody", 404, "model_not_found"),
]


def stranger(r: Rig, **headers: str) -> httpx2.AsyncClient:
    """A client without a key."""
    return httpx2.AsyncClient(base_url=r.base_url, headers=headers)


async def test_everything_else_needs_a_key(rig: OpenRig) -> None:
    async with rig() as r, stranger(r) as nobody:
        for method, path in KEYED:
            response = await nobody.request(method, path, json=chat())
            assert response.status_code == 401, path
            error = error_of(response)
            assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
            assert "Authorization: Bearer" in error["message"]


async def test_probes_are_open_and_so_are_metrics_and_the_description_on_this_machine(rig: OpenRig) -> None:
    async with rig() as r, stranger(r) as nobody:
        for path in (*OPEN_PATHS, "/metrics", "/openapi.json"):
            response = await nobody.get(path)
            assert response.status_code == 200, path
            assert response.headers["x-request-id"].startswith("req_")
        await r.charges(0)


async def test_a_caller_from_elsewhere_needs_a_key_even_where_this_machine_needs_none(rig: OpenRig) -> None:
    """A proxy on this machine says for whom it asks."""
    async with rig(open_loopback=True) as r, stranger(r, **{"x-forwarded-for": "203.0.113.9"}) as nobody:
        for path in ("/metrics", "/openapi.json", "/v1/models"):
            assert (await nobody.get(path)).status_code == 401
        keyed = await nobody.get("/metrics", headers={"authorization": f"Bearer {r.key}"})
        assert keyed.status_code == 200


async def test_open_loopback_lets_this_machine_in_without_a_key(rig: OpenRig) -> None:
    async with rig(open_loopback=True) as r, stranger(r) as nobody:
        assert (await nobody.post(CHAT, json=chat())).status_code == 200
        [row] = await r.charges(1)
        assert row["caller"] == "loopback"


@pytest.mark.parametrize(
    ("client", "is_loopback"),
    [
        (("127.0.0.1", 1), True),
        (("127.9.9.9", 1), True),
        (("::1", 1), True),
        (("::ffff:127.0.0.1", 1), True),
        (("10.0.0.1", 1), False),
        (("::ffff:10.0.0.1", 1), False),
        (("localhost", 1), False),
        (("", 0), False),
        (None, False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(client: object, is_loopback: bool) -> None:
    """An IPv4 address inside an IPv6 one is what a socket open to both reports."""
    assert _is_loopback(client) is is_loopback


async def test_an_unknown_and_a_revoked_key_are_refused(rig: OpenRig) -> None:
    async with rig() as r:
        async with AsyncOpenAI(base_url=f"{r.base_url}/v1", api_key="pm-wrong", max_retries=0) as wrong:
            with pytest.raises(AuthenticationError, match="revoked") as caught:
                await wrong.models.list()
        assert caught.value.code == "invalid_api_key"
        assert "pm-wrong" not in caught.value.response.text
        await asyncio.to_thread(r.runtime.keys.revoke, r.runtime.keys.list()[0].id)
        response = await r.http.post(CHAT, json=chat())
        assert response.status_code == 401
        [row] = await r.charges(1)
        assert (row["outcome"], row["status"], row["code"], row["caller"]) == ("refused", 401, "invalid_api_key", None)


async def test_any_odd_authorization_is_a_401(rig: OpenRig) -> None:
    async with rig() as r:
        for value in ODD_AUTHORIZATIONS:
            head = b"GET /v1/models HTTP/1.1\r\nhost: test\r\nauthorization: " + value + b"\r\n\r\n"
            async with connection(r, head) as reader:
                response = await raw_response(reader)
            assert response.status_code == 401, value
            error_of(response)


async def test_the_scheme_of_a_key_may_be_written_in_any_case(rig: OpenRig) -> None:
    async with rig() as r:
        for scheme in ("bearer", "BEARER", "Bearer  "):
            response = await r.http.get("/v1/models", headers={"authorization": f"{scheme} {r.key}"})
            assert response.status_code == 200


async def test_a_401_does_not_wait_for_the_body(rig: OpenRig) -> None:
    async with rig() as r:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\n".encode()
        async with connection(r, head) as reader:
            assert (await raw_response(reader)).status_code == 401
        await r.charges(1)


async def test_a_413_does_not_wait_for_the_body(rig: OpenRig) -> None:
    async with rig() as r:
        length = r.runtime.settings.body_limit_bytes + 1
        head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {r.key}\r\ncontent-length: {length}\r\n\r\n"
        async with connection(r, head.encode()) as reader:
            response = await raw_response(reader)
        assert response.status_code == 413
        error = error_of(response)
        assert error["code"] == "request_too_large"
        assert "POINTSMAN_BODY_LIMIT_BYTES" in error["message"]


async def test_a_body_of_fifty_mebibytes_is_a_413_by_its_length_and_without_one(rig: OpenRig) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * MEBIBYTE

    async with rig() as r:
        for content in (b" " * FIFTY_MEBIBYTES, pieces()):
            response = await r.http.post(CHAT, content=content)
            assert response.status_code == 413
            error_of(response)
        rows = await r.charges(2)
        assert {(row["outcome"], row["status"]) for row in rows} == {("refused", 413)}


async def test_the_sdk_reports_a_413(rig: OpenRig) -> None:
    async with rig() as r:
        with pytest.raises(APIStatusError) as caught:
            await r.client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "x" * FIFTY_MEBIBYTES}]
            )
        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


async def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not(rig: OpenRig) -> None:
    body = b'{"model": "large", "messages": [{"role": "user", "content": "x"}]}'
    async with rig(body_limit_bytes=2000) as r:
        assert (await r.http.post(CHAT, content=body.ljust(2000))).status_code == 200
        assert (await r.http.post(CHAT, content=body.ljust(2001))).status_code == 413


async def test_the_limit_holds_for_every_path(rig: OpenRig) -> None:
    async with rig(body_limit_bytes=2000) as r:
        response = await r.http.post("/v1/decision", content=b" " * 2001)
        assert response.status_code == 413
        error_of(response)


async def test_a_content_length_that_is_no_length_is_a_4xx(rig: OpenRig) -> None:
    async with rig() as r:
        for length in NO_LENGTHS:
            lines = [f"POST {CHAT} HTTP/1.1", "host: t", f"authorization: Bearer {r.key}", f"content-length: {length}"]
            async with connection(r, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")) as reader:
                status_line = await asyncio.wait_for(reader.readline(), 1)
            assert 400 <= int(status_line.split()[1]) < 500, length


async def test_what_is_not_there_is_said_in_openais_shape(rig: OpenRig) -> None:
    async with rig() as r:
        for method, path, status, code in NOT_THERE:
            response = await r.http.request(method, path)
            assert response.status_code == status, path
            assert error_of(response)["code"] == code
            assert (status == 405) == ("allow" in response.headers)
        await r.charges(0)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_head_and_options_are_no_fault_of_ours(rig: OpenRig, method: str) -> None:
    async with rig() as r:
        for path in (CHAT, "/v1/models", "/livez", "/metrics", "/nowhere", "*"):
            head = f"{method} {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {r.key}\r\nconnection: close\r\n\r\n"
            async with connection(r, head.encode()) as reader, asyncio.timeout(1):
                answer = await reader.read()
            status_line, _, rest = answer.partition(b"\r\n")
            assert int(status_line.split()[1]) < 500, path
            if method == "HEAD":
                assert rest.endswith(b"\r\n\r\n"), "an answer to HEAD has no body"


async def test_no_two_requests_have_the_same_id_and_a_clients_own_is_not_taken(rig: OpenRig) -> None:
    """The id is the ledger's key: whoever could choose it could hide a charge behind another."""
    async with rig() as r:
        answers = [await r.http.post(CHAT, json=chat(), headers={"x-request-id": "req_same"}) for _ in range(3)]
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert len(ids) == 3
        assert ids == {row["id"] for row in await r.charges(3)}


async def test_nothing_of_a_prompt_an_answer_or_a_key_is_logged(
    rig: OpenRig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_request_lines", True)
    async with rig() as r:
        messages = [{"role": "user", "content": "canary-prompt"}]
        await r.http.post(CHAT, json={"model": "large", "messages": messages})
        await r.http.post(CHAT, json={"model": "large", "messages": messages, "temperature": "canary-value"})
        await r.http.get("/v1/models", headers={"authorization": "Bearer pm-canary-key"})
        shown = capfd.readouterr()
        assert shown.err.count('"request_id":') == 3
        for secret in ("canary", "large answer", r.key):
            assert secret not in shown.out + shown.err
