"""What a prompt's version means to the router, and that each model is told the text of its own tier."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.keys import Grant
from gateway.learning import shadows
from gateway.learning.section import LearningSection
from gateway.library.standing import Standing
from gateway.limits.budgets import Limits
from gateway.settings import Settings
from models.catalog import Catalog
from models.engine import EngineUnavailable
from models.scripted import ScriptedEngine
from prompts.promptfile import Policy
from prompts.render import render
from prompts.template import Hold, Routing, Text, Variant
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from router.opinion import SecondOpinion
from tests.gateway.prompting.world import (
    FIRST,
    LIBRARY,
    SYSTEM,
    TICKET,
    TIERS,
    TRIAGE,
    Trusting,
    excluding,
    heard,
    library,
    publish,
    routed,
)
from tests.gateway.test_decisions import pointsman
from tests.gateway.test_second import THREE as OF_THREE
from tests.gateway.wire import CHAT, OpenRig, error_of, until
from tests.rig import CATALOG, Rig, say

pytestmark = pytest.mark.anyio

NAMED = {"id": TRIAGE.id, "variables": {"ticket": "It crashes."}}
ASKED = {"prompt": NAMED}
PASS_RATE = Bar(0.95, pass_rate=0.9)


def systems(rig: Rig, model: str) -> list[str]:
    """The system message of each call of *model*."""
    return [said[0][1] for said in heard(rig.engines[model].calls)]


async def test_a_version_that_has_earned_the_small_model_is_said_there_in_its_own_words(rig: OpenRig) -> None:
    async with rig(knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        response = await r.http.post(CHAT, json=ASKED)
        assert (response.headers["x-pointsman-model"], response.headers["x-prompt-variant"]) == ("small", "small")
        assert systems(r, "small") == [TIERS["small"]]
        assert not r.engines["large"].calls
        [charge] = await r.charges(1)
        assert (charge["model"], charge["prompt_variant"], charge["template"]) == ("small", "small", TRIAGE.key)


async def test_a_new_version_begins_at_the_safe_tier(rig: OpenRig) -> None:
    async with rig(knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        response = await r.http.post(CHAT, json={"prompt": {**NAMED, "version": "2"}})
        assert (response.headers["x-pointsman-model"], response.headers["x-pointsman-basis"]) == ("large", "safe")
        assert "no outcomes on this template" in response.headers["x-pointsman-reason"]


@pytest.mark.parametrize("stream", [False, True])
async def test_who_steps_in_for_another_tier_is_told_that_tiers_text(rig: OpenRig, stream: bool) -> None:
    async with rig(small=lambda call: [EngineUnavailable("down")], knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        response = await r.http.post(CHAT, json={**ASKED, "stream": stream})
        assert (response.headers["x-pointsman-model"], response.headers["x-prompt-variant"]) == ("large", "base")
        assert ({*systems(r, "small")}, systems(r, "large")) == ({TIERS["small"]}, [FIRST])  # it is tried twice
        [charge] = await r.charges(1)
        assert charge["prompt_variant"] == "base"


async def test_each_text_is_rendered_once(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.prompting import named

    rendered: list[str | None] = []

    def counted(template: Any, tier: str | None, *rest: Any) -> Any:
        rendered.append(tier)
        return render(template, tier, *rest)

    monkeypatch.setattr(named, "render", counted)
    async with rig(small=lambda call: [EngineUnavailable("down")], knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        await r.http.post(CHAT, json=ASKED)
        assert sorted(map(str, rendered)) == ["base", "small"]


@pytest.mark.parametrize("broken", ["base", "small"])
async def test_a_text_that_cannot_be_rendered_is_told_before_any_model_is_called(rig: OpenRig, broken: str) -> None:
    """Whichever model the router would choose: the failure does not come and go with it."""
    fault = (Text("system", "{{ ticket + 1 }}"), TICKET)
    template = (
        replace(TRIAGE, messages=fault) if broken == "base" else replace(TRIAGE, variants={"small": Variant(fault)})
    )
    async with rig(knowledge_maker=Trusting(template)) as r:
        publish(r, library(template))
        response = await r.http.post(CHAT, json=ASKED)
        error = error_of(response)
        assert (response.status_code, error["code"], error["param"]) == (422, "prompt_not_rendered", "prompt")
        assert f"support/triage ({broken}), message 0" in error["message"]
        assert response.headers["x-prompt-version"] == "1"
        assert not any(engine.calls for engine in r.engines.values())


async def test_a_tier_that_the_version_was_promoted_without_is_not_used(rig: OpenRig) -> None:
    async with rig(knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, excluding(1, "small"))
        assert (await r.http.post(CHAT, json=ASKED)).headers["x-pointsman-model"] == "large"
        pinned = await r.http.post(CHAT, json={**ASKED, "model": "small"})
        assert (pinned.status_code, error_of(pinned)["code"]) == (409, "prompt_not_servable")
        assert pinned.headers["x-should-retry"] == "false"
        publish(r, excluding(1, "small", "large"))
        assert error_of(await r.http.post(CHAT, json=ASKED))["code"] == "prompt_not_servable"


@pytest.mark.parametrize(
    ("routing", "model"),
    [(Routing(tiers=("large",)), "large"), (Routing(tiers=("small",)), "small"), (Routing(), "small")],
)
async def test_the_prompts_own_tiers_are_the_ones_that_answer(rig: OpenRig, routing: Routing, model: str) -> None:
    """The dearest of them is its safe tier, even where that is a cheap one: its author says so."""
    template = routed(routing)
    async with rig(knowledge_maker=Trusting(template)) as r:
        publish(r, library(template))
        assert (await r.http.post(CHAT, json=ASKED)).headers["x-pointsman-model"] == model


async def test_a_tier_is_used_only_where_the_version_has_earned_it(rig: OpenRig) -> None:
    name = f"{TRIAGE.id}@1"
    async with rig(knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        for earned, model in (({"large"}, "large"), ({"small", "large"}, "small"), (None, "large")):
            standing = Standing({} if earned is None else {name: frozenset(earned)})
            r.builder.runtime = replace(r.builder.runtime, standing=standing)
            response = await r.http.post(CHAT, json=ASKED)
            assert response.headers["x-pointsman-model"] == model, earned


async def test_a_session_does_not_keep_a_prompt_with_a_tier_that_it_may_not_use(rig: OpenRig) -> None:
    headers = {"x-pointsman-session": "s"}
    async with rig() as r:
        publish(r, library(routed(Routing(tiers=("small",)))))
        await r.http.post(CHAT, json={"model": "auto", "messages": [{"role": "user", "content": "x"}]}, headers=headers)
        assert (await r.http.post(CHAT, json=ASKED, headers=headers)).headers["x-pointsman-model"] == "small"


@pytest.mark.parametrize(("model", "answers"), [("large", "large"), ("small", "small"), ("gpt-4o-mini", "large")])
async def test_a_model_that_the_prompt_names_is_the_one_that_answers(rig: OpenRig, model: str, answers: str) -> None:
    template = replace(TRIAGE, model=model)
    async with rig() as r:
        publish(r, library(template))
        for asked in ("auto", "gpt-4o-mini", None, f"prompt:{TRIAGE.id}"):
            body = {"prompt": NAMED} if asked is None else {"prompt": NAMED, "model": asked}
            response = await r.http.post(CHAT, json=body)
            assert response.headers["x-pointsman-model"] == answers, response.text


async def test_another_model_than_the_fixed_one_is_refused_and_so_is_one_that_nobody_serves(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, library(replace(TRIAGE, model="large")))
        error = error_of(await r.http.post(CHAT, json={**ASKED, "model": "small"}))
        assert (error["code"], error["param"]) == ("prompt_model_fixed", "model")
        assert error_of(await r.http.post(CHAT, json={**ASKED, "model": "gpt-17"}))["code"] == "model_not_found"
        publish(r, library(replace(TRIAGE, model="gpt-17")))
        response = await r.http.post(CHAT, json=ASKED)
        assert (response.status_code, error_of(response)["code"]) == (409, "prompt_not_servable")


async def test_a_client_may_name_the_model_of_a_prompt_that_leaves_it_open(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        response = await r.http.post(CHAT, json={**ASKED, "model": "small"})
        assert (response.headers["x-pointsman-model"], systems(r, "small")) == ("small", [TIERS["small"]])


# 95 of 100 passed: the pass-rate is at least 0.89 with a confidence of 95 %.
@pytest.mark.parametrize(
    ("bar", "quality", "model"),
    [
        (None, None, "large"),
        (0.8, None, "small"),
        (0.8, "0.95", "large"),
        (0.8, "0.5", "small"),
        (0.99, "0.5", "large"),
        (0.99, "cheapest", "large"),
        (0.8, "best", "large"),
    ],
)
async def test_the_prompts_bar_is_the_one_that_holds_and_a_caller_can_only_raise_it(
    rig: OpenRig, bar: float | None, quality: str | None, model: str
) -> None:
    template = routed(Routing(bar=bar))
    knows = Trusting(template, bar=PASS_RATE, tally=Tally(passed=95, total=100))
    async with rig(knowledge_maker=knows, bar="0.9") as r:
        publish(r, library(template))
        headers = {} if quality is None else {"x-pointsman-quality": quality}
        response = await r.http.post(CHAT, json=ASKED, headers=headers)
        assert response.headers["x-pointsman-model"] == model, response.headers["x-pointsman-reason"]


async def test_a_margin_of_the_operators_stays_whatever_share_the_prompt_asks_for(rig: OpenRig) -> None:
    template = routed(Routing(bar=0.999))
    async with rig(knowledge_maker=Trusting(template)) as r:
        publish(r, library(template))
        assert (await r.http.post(CHAT, json=ASKED)).headers["x-pointsman-model"] == "small"


@pytest.mark.parametrize(
    ("hold", "header", "checkable"), [(None, None, True), (Hold.NONE, None, False), (Hold.NONE, "first", True)]
)
async def test_how_much_is_held_back_is_the_prompts_wish_and_a_callers_own_goes_first(
    rig: OpenRig, hold: Hold | None, header: str | None, checkable: bool
) -> None:
    seen: list[bool] = []
    template = routed(Routing(hold=hold))
    async with rig(knowledge_maker=Trusting()) as r:
        publish(r, library(template))
        strategy = r.builder.runtime.strategy

        class Watching:
            def decide(self, question: Any, knowledge: Any) -> Any:
                seen.append(question.checkable)
                return strategy.decide(question, knowledge)

        r.builder.runtime = replace(r.builder.runtime, strategy=Watching())
        await r.http.post(CHAT, json=ASKED, headers={} if header is None else {"x-pointsman-hold": header})
    assert seen == [checkable]


async def test_a_decision_is_explained_with_the_version_and_the_text_that_was_said(rig: OpenRig) -> None:
    async with rig(knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        response = await r.http.post(CHAT, json=ASKED)
        await r.charges(1)
        code, said = await pointsman(r, "route", "explain", response.headers["x-request-id"])
        assert code == 0, said
        assert "prompt support/triage@1, small" in said
        assert "made again: the same choice, small, large" in said


# What goes to the engine: request over variant over template, and what is locked is the template's.


async def sent(rig: Rig, template: Any, **asked: Any) -> dict[str, Any]:
    publish(rig, library(template))
    response = await rig.http.post(CHAT, json={**ASKED, **asked})
    assert response.status_code == 200, response.text
    return dict(rig.engines[response.headers["x-pointsman-model"]].calls[-1].body)


async def test_parameters_of_the_request_go_before_the_variants_and_these_before_the_templates(rig: OpenRig) -> None:
    variant = Variant((SYSTEM, TICKET), {"temperature": 0.2, "top_p": 0.5})
    template = replace(TRIAGE, parameters={"temperature": 0.1, "seed": 7}, variants={"small": variant})
    async with rig() as r:
        body = await sent(r, template, model="small", top_p=0.9)
        assert {name: body[name] for name in ("temperature", "top_p", "seed")} == {
            "temperature": 0.2,
            "top_p": 0.9,
            "seed": 7,
        }
        assert (await sent(r, template, model="small", temperature=None))["temperature"] == 0.2
        locked = replace(template, locked=frozenset({"temperature"}))
        assert (await sent(r, locked, model="small", temperature=1.5))["temperature"] == 0.2


async def test_the_length_of_an_answer_has_two_names_and_is_one_parameter(rig: OpenRig) -> None:
    async with rig() as r:
        own = await sent(r, TRIAGE, max_completion_tokens=9)
        assert (own.get("max_completion_tokens"), own.get("max_tokens")) == (9, None)
        locked = await sent(r, replace(TRIAGE, locked=frozenset({"max_tokens"})), max_completion_tokens=900)
        assert (locked.get("max_completion_tokens"), locked.get("max_tokens")) == (None, 50)


async def test_the_prompts_response_format_is_asked_for_and_needs_a_model_that_has_it(rig: OpenRig) -> None:
    async with rig() as r:
        body = await sent(r, replace(TRIAGE, response_format={"type": "json_object"}))
        assert body["response_format"] == {"type": "json_object"}


# Everything behind sees what was rendered.


async def test_the_cache_knows_answers_by_what_was_rendered(rig: OpenRig) -> None:
    async with rig(cache={"enabled": True}) as r:
        publish(r, LIBRARY)
        first, same = [await r.http.post(CHAT, json=ASKED) for _ in range(2)]
        other = await r.http.post(CHAT, json={"prompt": {**NAMED, "variables": {"ticket": "Refund?"}}})
        new = await r.http.post(CHAT, json={"prompt": {**NAMED, "version": "staging"}, "temperature": 0})
        hits = [answer.headers.get("x-pointsman-cache") for answer in (first, same, other, new)]
        assert hits == [None, "exact", None, None]
        assert same.headers["x-prompt-variant"] == "base"


async def test_the_cache_keeps_an_answer_under_the_text_of_the_model_that_gave_it(rig: OpenRig) -> None:
    """The small one is down the first time; when it is back, the large one's answer is no answer of its."""
    down = [True]
    play = lambda call: [EngineUnavailable("down")] if down[0] else say("small")(call)  # noqa: E731
    async with rig(small=play, knowledge_maker=Trusting(TRIAGE), cache={"enabled": True}) as r:
        publish(r, LIBRARY)
        assert (await r.http.post(CHAT, json=ASKED)).headers["x-pointsman-model"] == "large"
        again = await r.http.post(CHAT, json={**ASKED, "model": "large"})
        assert (again.headers.get("x-pointsman-cache"), again.headers["x-prompt-variant"]) == ("exact", "base")


async def test_what_a_request_may_cost_is_reserved_for_the_longest_text(rig: OpenRig) -> None:
    """The variables are few bytes; the text of the tier that may step in has 3,000, for which there is no money."""
    long = Variant((Text("system", "x" * 3000), TICKET))
    template = replace(TRIAGE, variants={"small": long})
    async with rig() as r:
        key, _ = await asyncio.to_thread(r.runtime.keys.create, "poor", Grant(limits=Limits(day_nano_usd=2_000_000)))
        headers = {"authorization": f"Bearer {key}"}
        publish(r, library(template))
        refused = await r.http.post(CHAT, json=ASKED, headers=headers)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "insufficient_quota")
        assert refused.headers["x-prompt-id"] == TRIAGE.id
        publish(r, library(replace(template, variants={})))
        assert (await r.http.post(CHAT, json=ASKED, headers=headers)).status_code == 200


async def test_a_limit_of_the_callers_money_holds_for_every_text(rig: OpenRig) -> None:
    """The engine is told how long an answer may be; the variant's own, smaller wish stays."""
    template = replace(TRIAGE, parameters={}, variants={"small": Variant(None, {"max_tokens": 7})})
    down = [EngineUnavailable("down")]
    async with rig(small=lambda call: down, knowledge_maker=Trusting(template), clamp_to_budget=True) as r:
        publish(r, library(template))
        limits = Limits(day_nano_usd=3_000_000)
        key, _ = await asyncio.to_thread(r.runtime.keys.create, "thrifty", Grant(limits=limits))
        response = await r.http.post(CHAT, json=ASKED, headers={"authorization": f"Bearer {key}"})
        assert response.status_code == 200, response.text
        small, large = r.engines["small"].calls[0], r.engines["large"].calls[0]
        assert small.body["max_tokens"] == 7
        assert 0 < large.body["max_tokens"] < 2000


async def test_guardrails_look_at_what_was_rendered_for_whoever_answers(rig: OpenRig) -> None:
    mask = {"kind": "blocklist", "words": ["secret"], "action": "mask"}
    down = [EngineUnavailable("down")]
    named = {**NAMED, "variables": {"ticket": "the secret"}}
    async with rig(guardrails=[mask], small=lambda call: down, knowledge_maker=Trusting(TRIAGE)) as r:
        publish(r, LIBRARY)
        await r.http.post(CHAT, json={"prompt": named})
        for model in ("small", "large"):
            assert heard(r.engines[model].calls)[-1] == [("system", TIERS[model]), ("user", "the [BLOCKED]")]


async def test_a_key_of_one_request_is_not_used_for_another_prompt(rig: OpenRig) -> None:
    async with rig() as r:
        publish(r, LIBRARY)
        key = {"idempotency-key": "once"}
        body = {"model": "auto", "messages": [], "variables": {"ticket": "x"}}
        first = await r.http.post(CHAT, json=body, headers={**key, "x-prompt-id": TRIAGE.id})
        again = await r.http.post(CHAT, json=body, headers={**key, "x-prompt-id": TRIAGE.id})
        other = await r.http.post(CHAT, json=body, headers={**key, "x-prompt-id": "plain"})
        assert (first.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        assert error_of(other)["code"] == "idempotency_key_reused"


async def test_a_shadow_is_told_the_text_of_its_own_tier(rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "WORTH_ASKING", 1)
    learning = LearningSection(explore_usd_per_day=Decimal(1), explore_share=1.0)
    spacious = CATALOG.replace("tier: 0", "tier: 0\n    parallel: 8").replace("tier: 1", "tier: 1\n    parallel: 8")
    knows = Trusting(bar=PASS_RATE)
    async with rig(knowledge_maker=knows, learning=learning, catalog=spacious) as r:
        publish(r, LIBRARY)
        await r.http.post(CHAT, json=ASKED)
        await until(lambda: len(r.engines["small"].calls) == 1 and r.runtime.watch.shadows.rests, 5)
        assert (systems(r, "small"), systems(r, "large")) == ([TIERS["small"]], [FIRST])
        shadow = next(row for row in await r.charges(2) if row["operation"] == "shadow")
        assert (shadow["prompt"], shadow["prompt_version"], shadow["prompt_variant"]) == (TRIAGE.id, 1, "small")
        await r.builder.learn()
        assert [kept.key[0] for kept in r.runtime.records.read()] == [TRIAGE.key]


async def test_no_shadow_goes_to_a_tier_that_the_version_is_kept_from(
    rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows, "WORTH_ASKING", 1)
    learning = LearningSection(explore_usd_per_day=Decimal(1), explore_share=1.0)
    async with rig(knowledge_maker=Trusting(bar=PASS_RATE), learning=learning) as r:
        publish(r, excluding(1, "small"))
        await r.http.post(CHAT, json=ASKED)
        await r.charges(1)
        assert r.runtime.watch.shadows.rests
        assert not r.engines["small"].calls


THREE = ("tiny", "small", "large")
SAYS = {name: f"You are {name}." for name in THREE}


@pytest.mark.parametrize(("tiny", "answers"), [("up", "small"), ("down", "large")])
async def test_a_second_opinion_and_who_steps_in_are_each_told_their_own_text(
    rig: OpenRig, tiny: str, answers: str
) -> None:
    template = replace(
        TRIAGE,
        messages=(Text("system", SAYS["large"]), TICKET),
        variants={name: Variant((Text("system", SAYS[name]), TICKET)) for name in THREE[:2]},
    )

    def knows(catalog: Catalog, _: Settings) -> Knowledge:
        second, small, _large = models = catalog.chatting
        key = (template.key, small.build)
        opinion = SecondOpinion(second.build, "exact", 0.8, "passed 80/80", 10.0)
        unproved = Evidence({key: Tally(passed=30, total=40, lost=6, won=3, paired=40)})
        bar = Bar(0.95, margin=0.1)
        return Knowledge(models, unproved, Difficulty({}), {}, bar, second_opinions={key: (opinion,)})

    other = ScriptedEngine("tiny", say(tiny))
    async with rig(small=say("up"), knowledge_maker=knows, others={"tiny": other}, catalog=OF_THREE) as r:
        publish(r, replace(library(template), policy=Policy(tiers=THREE)))
        response = await r.http.post(CHAT, json=ASKED)
        assert response.headers["x-pointsman-model"] == answers
        assert response.headers["x-prompt-variant"] == ("small" if answers == "small" else "base")
        assert [said[0][1] for said in heard(other.calls)] == [SAYS["tiny"]]
        assert systems(r, "small") == [SAYS["small"]]
        assert systems(r, "large") == ([SAYS["large"]] if answers == "large" else [])
