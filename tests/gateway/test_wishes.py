"""What a caller wishes of one answer is kept, or refused by name; through the front door."""

from collections.abc import Callable
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.schema import parse_chat
from gateway.settings import Settings
from gateway.wishes import NO_WISHES, Wishes, wishes_of
from models.catalog import Catalog
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.expected import Expected
from tests.gateway.wire import OpenRig
from tests.rig import Rig
from tests.router.world import SMALL

pytestmark = pytest.mark.anyio

OWN = Bar(0.95, margin=0.1)
ASKED = [{"role": "system", "content": "A task."}, {"role": "user", "content": "A question."}]


def knowing(tally: Tally) -> Callable[[Catalog, Settings], Knowledge]:
    template = template_key({"messages": ASKED})
    assert template is not None

    def maker(catalog: Catalog, _: Settings) -> Knowledge:
        models = catalog.chatting
        return Knowledge(models, Evidence({(template, models[0].build): tally}), Difficulty({}), {}, OWN)

    return maker


HOLDS_A_TENTH = Tally(passed=190, total=200, lost=10, won=2, paired=200)  # the difference is at least -0.08


async def decided(r: Rig, **headers: str) -> tuple[int, str]:
    named = {f"x-pointsman-{name.replace('_', '-')}": value for name, value in headers.items()}
    response = await r.http.post("/v1/decision", json={"model": "auto", "messages": ASKED}, headers=named)
    said = response.json()
    return response.status_code, said.get("model") or said["error"]["param"]


async def test_a_stricter_bar_moves_up_and_a_lower_one_does_not(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH)) as r:
        assert await decided(r) == (200, "small")
        assert await decided(r, quality="balanced") == (200, "small")
        assert await decided(r, quality="safe-0.2") == (200, "small")
        assert await decided(r, quality="safe-0.02") == (200, "large")
        assert await decided(r, quality="best") == (200, "large")


async def test_the_cheapest_is_asked_for_in_so_many_words(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(Tally())) as r:
        assert await decided(r) == (200, "large")
        assert await decided(r, quality="cheapest") == (200, "small")
        raw = await r.client.chat.completions.with_raw_response.create(
            model="auto",
            messages=ASKED,  # type: ignore[arg-type]
            extra_headers={"x-pointsman-quality": "cheapest"},
        )
        assert raw.headers["x-pointsman-model"] == "small"
        assert "cheapest" in raw.headers["x-pointsman-reason"]


async def test_what_no_proved_model_can_keep_is_refused_and_nobody_is_called(rig: OpenRig) -> None:
    async with rig(knowledge_maker=knowing(Tally())) as r:
        status, param = await decided(r, max_cost="0")
        assert (status, param) == (400, "x-pointsman-max-cost, x-pointsman-max-latency")
        response = await r.http.post(
            "/v1/chat/completions",
            json={"model": "large", "messages": ASKED},
            headers={"x-pointsman-max-cost": "0"},
        )
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "over_request_limit"
        assert "would cost" in response.json()["error"]["message"]
        assert r.engines["small"].calls == r.engines["large"].calls == []
        assert await decided(r, max_cost="10") == (200, "large")


async def test_a_limit_keeps_others_from_being_tried(rig: OpenRig) -> None:
    """The proved one serves; the safe tier, over the limit, is not tried after it."""
    async with rig(knowledge_maker=knowing(HOLDS_A_TENTH)) as r:
        catalog = r.runtime.catalog
        asked = parse_chat(orjson.dumps({"model": "auto", "messages": ASKED}), catalog)
        expect = r.runtime.forecast(asked, None)
        costs = [expect(m).cost_usd(m) for m in catalog.chatting]
        assert costs[0] is not None
        assert costs[1] is not None
        assert costs[0] < costs[1]
        between = str((costs[0] + costs[1]) / 2)
        response = await r.http.post(
            "/v1/decision",
            json={"model": "auto", "messages": ASKED},
            headers={"x-pointsman-max-cost": between},
        )
        assert response.json()["order"] == ["small"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("quality", "good"),
        ("quality", "0.9"),
        ("quality", "safe-2"),
        ("max_cost", "cheap"),
        ("max_cost", "-1"),
        ("max_cost", "NaN"),
        ("max_cost", "Infinity"),
        ("max_latency", "0"),
        ("max_latency", "inf"),
        ("max_latency", "soon"),
        ("hold", "half"),
        ("hold", "WHOLE"),
    ],
)
async def test_a_wish_that_cannot_be_read_is_refused_by_its_name(rig: OpenRig, header: str, value: str) -> None:
    async with rig(knowledge_maker=knowing(Tally())) as r:
        assert await decided(r, **{header: value}) == (400, f"x-pointsman-{header.replace('_', '-')}")


@given(
    st.dictionaries(
        st.sampled_from(
            [b"x-pointsman-quality", b"x-pointsman-max-cost", b"x-pointsman-max-latency", b"x-pointsman-hold"]
        ),
        st.binary(max_size=12),
    )
)
def test_any_header_is_a_wish_or_refused(headers: dict[bytes, bytes]) -> None:
    wishes, param = NO_WISHES, None
    try:
        wishes = wishes_of(headers, OWN)
    except InvalidRequest as refused:
        param = refused.param
    assert param is None or param.encode() in headers
    assert wishes.max_cost_usd is None or wishes.max_cost_usd >= Decimal(0)
    assert wishes.max_latency_seconds is None or wishes.max_latency_seconds > 0
    assert wishes.bar is None or wishes.bar.margin is not None


@pytest.mark.parametrize(
    ("written", "fields", "held"),
    [
        (b"", {}, "first"),
        (b"", {"response_format": {"type": "json_object"}}, "whole"),
        (b"", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "whole"),
        (b"first", {"response_format": {"type": "json_object"}}, "first"),
        (b" whole ", {}, "whole"),
        (b"none", {"response_format": {"type": "json_object"}}, "none"),
    ],
)
async def test_how_much_is_held_back_is_what_is_wished_else_what_the_form_needs(
    rig: OpenRig, written: bytes, fields: dict[str, object], held: str
) -> None:
    async with rig() as r:
        asked = parse_chat(orjson.dumps({"model": "auto", "messages": ASKED, **fields}), r.runtime.catalog)
        assert wishes_of({b"x-pointsman-hold": written}, OWN).held_back(asked) == held


def test_a_queue_takes_time_and_a_warm_cache_is_not_counted_on() -> None:
    hurried = Wishes(max_latency_seconds=1.5)
    thrifty = Wishes(max_cost_usd=Decimal("0.0001"))
    alone, queued = Expected(80, 20), Expected(80, 20, wait_seconds=1.0)  # SMALL takes a second for 100 tokens
    assert hurried.over_limits([SMALL], lambda model: alone) == {}
    assert hurried.over_limits([SMALL], lambda model: queued) == {"small": "small would take about 2.0 s"}
    assert hurried.over_limits([SMALL], lambda model: queued._replace(cached_tokens=79)) != {}
    assert thrifty.over_limits([SMALL], lambda model: alone) == {}
    cached = Expected(10_000, 20, cached_tokens=9_999)
    assert thrifty.over_limits([SMALL], lambda model: cached) == {"small": "small would cost about 0.010020 USD"}


def test_no_headers_are_no_wishes() -> None:
    assert wishes_of({b"authorization": b"x"}, OWN) is NO_WISHES
