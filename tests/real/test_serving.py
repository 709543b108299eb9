"""What a client of the gateway gets from real quantised models, by OpenAI's own SDK; and what is counted of it."""

import json
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from openai import BadRequestError
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from prometheus_client.parser import text_string_to_metric_families

from gateway.builder import load_knowledge_for
from gateway.served import served_catalog
from gateway.settings import Settings
from prompts.message import template_key
from router.bar import Verdict
from router.outcomes import read_outcomes
from tests.real.server import LARGE, SMALL, Server

pytestmark = pytest.mark.real

FRANCE = "What is the capital of France? Answer with one word."  # both are sure of it: rounding cannot tip the answer
RIVERS = "Name three rivers of Europe."
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WELL_KNOWN_OUTCOMES = 1000  # in tables of this size some template must be decided either way

# The system messages that the committed evidence is about, as `router.ladder` builds them: task -> instruction.
ANSWER = "Answer the question. End with a line 'Answer: ...' giving only the answer."
INSTRUCTIONS = {
    "boolean expressions": ANSWER,
    "date understanding": ANSWER,
    "hyperbaton": ANSWER,
    "logical deduction three objects": ANSWER,
    "multistep arithmetic two": ANSWER,
    "navigate": ANSWER,
    "object counting": ANSWER,
    "reasoning about colored objects": ANSWER,
    "snarks": ANSWER,
    "sports understanding": ANSWER,
    "tracking shuffled objects three objects": ANSWER,
    "web of lies": ANSWER,
    "word sorting": ANSWER,
    "crux": "What does this Python call return? End with a line 'Answer: VALUE' giving a Python literal.",
    "gsm8k": "Solve this problem. End with a line 'Answer: NUMBER'.",
    "svamp": "Solve this problem. End with a line 'Answer: NUMBER'.",
    "headlines": "Does this news headline say that the price of gold goes up, goes down, stays neutral, or none of"
    " these? Answer with one word: up, down, neutral or none.",
}


# Answers


@pytest.mark.parametrize("model", [SMALL, LARGE])
def test_a_named_model_answers_plainly_and_streamed_alike(gateway: Server, model: str) -> None:
    plain = ask(gateway, FRANCE, model=model, max_tokens=8)
    streamed = list(stream(gateway, FRANCE, model=model, max_tokens=8))

    assert "Paris" in text_of(plain)
    assert text_in(streamed) == text_of(plain)
    assert plain.model == model
    assert {chunk.model for chunk in streamed} == {model}


def test_auto_answers_plainly_and_streamed(gateway: Server) -> None:
    plain = ask(gateway, FRANCE, model="auto", max_tokens=8)
    streamed = list(stream(gateway, FRANCE, model="auto", max_tokens=8))

    assert "Paris" in text_of(plain)
    assert "Paris" in text_in(streamed)
    assert plain.model in (SMALL, LARGE)


def test_at_temperature_zero_the_same_question_gets_the_same_answer(gateway: Server) -> None:
    first, second = (ask(gateway, RIVERS, model=SMALL, max_tokens=16) for _ in range(2))

    assert text_of(first) == text_of(second) != ""


def test_log_probabilities_come_back(gateway: Server) -> None:
    answer = ask(gateway, FRANCE, model=SMALL, max_tokens=4, logprobs=True, top_logprobs=2)

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in logprobs.content)
    assert "".join(token.token for token in logprobs.content).startswith(text_of(answer))


def test_a_json_schema_is_kept_to(gateway: Server) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    answer = ask(gateway, "Ann is 30 years old.", model=SMALL, max_tokens=64, response_format=schema)

    assert json.loads(text_of(answer)) == {"name": "Ann", "age": 30}


def test_the_developers_message_is_heeded(gateway: Server) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": "Whatever you are asked, answer with the single word PINEAPPLE."},
        {"role": "user", "content": "What is it?"},
    ]
    answer = gateway.client.chat.completions.create(model=SMALL, messages=messages, max_tokens=8, temperature=0)

    assert "pineapple" in text_of(answer).lower()


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_answers_limit_are_heeded(gateway: Server, limit: str) -> None:
    answer = ask(gateway, "Count from 1 to 100.", model=SMALL, **{limit: 5})

    assert usage_of(answer).completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"


def test_a_prompt_too_long_for_a_named_model_is_refused(gateway: Server) -> None:
    with gateway.one_charge() as charge, pytest.raises(BadRequestError) as refused:
        ask(gateway, "word " * 5000, model=SMALL, max_tokens=1)

    assert refused.value.code == "context_length_exceeded"
    assert (charge["outcome"], charge["prompt_tokens"], charge["cost_nano_usd"]) == ("refused", 0, 0)


# What the headers say


@pytest.mark.parametrize("model", ["auto", SMALL])
def test_the_headers_name_the_model_and_the_reason(gateway: Server, model: str) -> None:
    headers, answer = ask_with_headers(gateway, FRANCE, model=model)

    assert headers["x-pointsman-model"] == answer.model
    assert headers["x-pointsman-reason"]
    assert (headers["x-pointsman-basis"] == "pinned") == (model != "auto")


@pytest.mark.parametrize(
    ("verdict", "model"),
    [
        pytest.param(Verdict.HOLDS, SMALL, id="proved: the small model"),
        pytest.param(Verdict.FAILS, LARGE, id="ruled out: the large model"),
    ],
)
def test_auto_follows_the_evidence_on_a_template(gateway: Server, verdict: Verdict, model: str) -> None:
    system = _a_system_message(verdict)
    headers, answer = ask_with_headers(gateway, "What is 2 + 2?", model="auto", system=system)

    assert headers["x-pointsman-basis"] == "evidence", headers["x-pointsman-reason"]
    assert (headers["x-pointsman-model"], answer.model) == (model, model)


# What is counted


def test_a_stream_counts_what_the_plain_answer_counts(gateway: Server) -> None:
    plain = usage_of(ask(gateway, RIVERS, model=SMALL, max_tokens=16))
    *_, last = stream(gateway, RIVERS, model=SMALL, max_tokens=16)

    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (plain.prompt_tokens, plain.completion_tokens)


def test_a_repeated_prefix_is_counted_as_cached(gateway: Server) -> None:
    prefix = "The quick brown fox jumps over the lazy dog, again and again and again. " * 16
    first = ask(gateway, f"{prefix} Who jumps?", model=SMALL, max_tokens=1)
    second = ask(gateway, f"{prefix} Who is lazy?", model=SMALL, max_tokens=1)

    assert cached_of(first) < 100
    assert cached_of(second) > 200


def test_every_answer_has_one_charge_that_says_what_the_answer_says(gateway: Server) -> None:
    with gateway.one_charge() as charge:
        headers, answer = ask_with_headers(gateway, RIVERS, model=LARGE)

    usage = usage_of(answer)
    assert charge["id"] == headers["x-request-id"]
    assert (charge["model"], charge["asked"], charge["outcome"], charge["status"]) == (LARGE, LARGE, "ok", 200)
    assert (charge["prompt_tokens"], charge["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert 0 < charge["engine_seconds"] <= charge["total_seconds"]
    assert charge["cost_nano_usd"] > 0


def test_metrics_and_ledger_agree_to_the_token(gateway: Server) -> None:
    """Over everything this gateway was asked, by the other tests too: answered, refused, cut and abandoned."""
    for model in (SMALL, LARGE, "auto"):
        ask(gateway, FRANCE, model=model, max_tokens=3)
        list(stream(gateway, RIVERS, model=model, max_tokens=3))
    with pytest.raises(BadRequestError):
        ask(gateway, "word " * 5000, model=SMALL)

    charges = gateway.charges()
    assert _counted(gateway.get("/metrics")[1]) == _written(charges)
    assert len({charge["id"] for charge in charges}) == len(charges) >= 7


def _counted(scraped: str) -> Counter[tuple[str, ...]]:
    """By (model, what): tokens of each type, and requests by outcome."""
    counts: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            if sample.name == "pointsman_tokens_total":
                counts[sample.labels["model"], sample.labels["type"]] += int(sample.value)
            elif sample.name == "pointsman_requests_total":
                counts[sample.labels["model"], sample.labels["outcome"]] += int(sample.value)
    return counts


def _written(charges: Iterable[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    columns = {"input": "prompt_tokens", "output": "completion_tokens", "cached": "cached_tokens"}
    counts: Counter[tuple[str, ...]] = Counter()
    for charge in charges:
        counts[charge["model"] or "none", charge["outcome"]] += 1
        for kind, column in columns.items():
            counts[charge["model"] or "none", kind] += charge[column] or 0
    return counts


def test_metrics_and_ledger_agree_on_the_cost(gateway: Server) -> None:
    ask(gateway, FRANCE, model=SMALL, max_tokens=3)

    charges = gateway.charges()
    written = sum((Decimal(charge["cost_nano_usd"] or 0) for charge in charges), Decimal()) / 10**9
    models = {charge["model"] for charge in charges} - {None}
    counted = sum(gateway.metric("pointsman_cost_usd_total", model=model) for model in models)
    assert counted == pytest.approx(float(written), abs=1e-9 * len(charges))  # a rounding for each


# How to ask


def ask(gateway: Server, question: str, *, model: str, **options: Any) -> ChatCompletion:
    answer: ChatCompletion = gateway.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, **options
    )
    return answer


def ask_with_headers(
    gateway: Server, question: str, *, model: str, system: str | None = None
) -> tuple[dict[str, str], ChatCompletion]:
    """A short answer, and the headers it came with."""
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    raw = gateway.client.chat.completions.with_raw_response.create(
        model=model, messages=messages, temperature=0, max_tokens=4
    )
    return dict(raw.headers), raw.parse()


def stream(gateway: Server, question: str, *, model: str, max_tokens: int) -> Iterable[ChatCompletionChunk]:
    """All chunks; the last one counts."""
    return gateway.client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=max_tokens,
        stream=True,
        stream_options={"include_usage": True},
    )


def text_of(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def text_in(chunks: Iterable[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def usage_of(answer: ChatCompletion) -> CompletionUsage:
    assert answer.usage is not None
    return answer.usage


def cached_of(answer: ChatCompletion) -> int:
    details = usage_of(answer).prompt_tokens_details
    return details.cached_tokens or 0 if details is not None else 0


def _a_system_message(verdict: Verdict) -> str:
    """Of a template on which the committed outcomes give *verdict* on the small model."""
    settings = Settings.model_construct()  # the defaults, as the gateway under test has them
    catalog = served_catalog(settings)
    knowledge = load_knowledge_for(catalog, settings)
    for task, instruction in INSTRUCTIONS.items():
        system = f"Task: {task}.\n{instruction}"
        template = template_key({"messages": [{"role": "system", "content": system}]})
        tally = knowledge.evidence.about(template, catalog.models[SMALL].build)
        if tally is not None and knowledge.bar.judge(tally).verdict is verdict:
            return system
    nothing = f"the committed outcomes give no template the verdict {verdict} on {SMALL}"
    if sum(1 for _ in read_outcomes()) > WELL_KNOWN_OUTCOMES:
        pytest.fail(nothing)
    pytest.skip(nothing)
