"""A prompt with a suite, and models made of a function: for the mechanism, never for a claim about quality."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from prompts.answer import Answer
from prompts.assertions.kind import Assertion
from prompts.message import Message
from prompts.optimise.bench import Bench, Cases
from prompts.optimise.budget import Budget, Purse
from prompts.optimise.guard import Guard
from prompts.suite import Case, Split, Suite
from prompts.template import Template, Text

TIER = "small"
LABELS = ("left", "right")
SAYS = Callable[[Sequence[Message]], str]


def template(system: str = "Say left or right.", user: str = "{{ text }}") -> Template:
    return Template(
        id="t",
        messages=(Text("system", system), Text("user", user)),
        inputs={
            "type": "object",
            "required": ["text"],
            "properties": {"text": {"type": "string", "x-untrusted": True}, "tone": {"type": "string"}},
        },
        parameters={"temperature": 0},
    )


def label(number: int) -> str:
    return LABELS[number % len(LABELS)]


def suite(cases: int = 80) -> Suite:
    return Suite(
        tuple(
            Case(f"c{n}", (Assertion("equals", value=label(n)),), vars={"text": f"word{n} among some further words"})
            for n in range(cases)
        )
    )


def number_in(messages: Sequence[Message]) -> int:
    """Of the case that the last message asks about."""
    return int(messages[-1]["content"].split()[0].removeprefix("word"))


class Model:
    """Answers with *says* of the messages, and remembers what it was asked."""

    def __init__(self, says: SAYS, usd: Decimal | None = Decimal("0.001")) -> None:
        self.says, self.usd = says, usd
        self.asked: list[Sequence[Message]] = []

    async def __call__(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        self.asked.append(messages)
        return Answer(self.says(messages), cost_usd=self.usd, prompt_tokens=10, completion_tokens=1)

    @property
    def texts(self) -> str:
        return "\n".join(str(message["content"]) for messages in self.asked for message in messages)


def follows_examples(most: int = 8) -> SAYS:
    """Right where it was shown at least *most* examples; else it says the first label."""

    def says(messages: Sequence[Message]) -> str:
        shown = sum(message["role"] == "assistant" for message in messages)
        return label(number_in(messages)) if shown >= most else LABELS[0]

    return says


def bench(model: Model, *, cases: Suite | None = None, budget: Budget | None = None, **more: Any) -> Bench:
    whole, made = cases or suite(), template()
    held_out = whole.only(Split.HELD_OUT).cases
    seen = Cases.of(whole)
    return Bench(
        template=made,
        tier=TIER,
        cases=seen,
        guard=Guard(made, TIER, held_out=held_out, rendered=seen.train),
        build="b",
        **{
            "ask": model,
            "purse": Purse(budget or Budget(calls=100_000)),
            "enough": lambda passed, total, texts: passed == total,
            **more,
        },
    )
