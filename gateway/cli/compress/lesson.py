"""What a small model is taught of one prompt: its train cases, texts of the owner, and texts that the teacher writes.

The teacher answers what has no answer yet, shown train cases as examples. Nothing of the cases that choose or judge
comes in.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson

from gateway.cli.compress.running import CompressFailed
from gateway.cli.prompts.examining import parameters_of, renderer
from prompts.answer import Answer
from prompts.canonical import digest
from prompts.examination import Ask, Kept
from prompts.fitted import marks
from prompts.message import Message
from prompts.optimise.examples import Example, balanced, known
from prompts.render import render
from prompts.suite import Case, Split, Suite
from prompts.template import Template
from prompts.variables import VariablesRefused

SHOTS = 12  # train cases that the teacher is shown
INSPIRATIONS = 4  # train cases that it sees when it writes a text
FEW_ANSWERS = 10  # where the train cases have so few different answers, another one is a mistake of the teacher's
RUN_WORDS = 5  # so many words in a row of a case that judges, and a text is not taught
WRITING_TOKENS = 120
TRIES = 3  # texts that are written for one that is kept, at most

Row = dict[str, Any]  # messages and answer, as the job takes them


@dataclass(frozen=True, slots=True)
class Lesson:
    """`examples` to learn from, `validation` to choose by. `left_out`: why texts were not taken, with their count.
    `marks`: of the suite's cases that it is made from.
    """

    examples: tuple[Row, ...]
    validation: tuple[Row, ...]
    origins: Mapping[str, int]
    left_out: Mapping[str, int]
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A prompt as one tier is told it, and its suite."""

    template: Template
    tier: str
    suite: Suite

    def example(self, case: Case, answer: str) -> Row:
        messages = render(self.template, self.tier, case.vars, case.messages).messages
        return {"messages": [dict(message) for message in messages], "answer": answer}

    def known(self, split: Split) -> list[Example]:
        return [one for case in self.suite.only(split).cases if (one := known(case)) is not None]


def given_texts(path: Path) -> list[tuple[Case, str | None]]:
    """JSON lines of `vars`, and `answer` where it is known. Raises CompressFailed with the line."""
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = orjson.loads(line)
            variables, answer = row["vars"], row.get("answer")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CompressFailed(f'{path}:{number}: not of the form {{"vars": {{...}}, "answer": "..."}}') from None
        if not isinstance(variables, dict) or not isinstance(answer, str | None):
            raise CompressFailed(f"{path}:{number}: vars is an object, and answer a text or left out")
        found.append((Case(f"line {number}", (), variables), answer))
    return found


async def lesson(
    subject: Subject,
    given: Sequence[tuple[Case, str | None]],
    teacher: "Teacher | None",
    write: int,
    tell: Callable[[], None],
) -> Lesson:
    """Raises CompressFailed where the suite has too little to teach or to choose by."""
    train, validation = subject.known(Split.TRAIN), subject.known(Split.VALIDATION)
    if not train or not validation:
        raise CompressFailed(
            f"{subject.template.id}: {len(train)} train cases and {len(validation)} validation cases say their answer "
            "(equals); there must be some of both: add cases, or answers to --data"
        )
    rows = [subject.example(one.case, one.answer) for one in train]
    origins, left_out = Counter({"train cases": len(rows)}), Counter[str]()
    unseen = list(runs_of(case for case in subject.suite.cases if case.split is not Split.TRAIN))
    expected = {one.answer for one in train}
    texts = list(given)
    if teacher is not None and write:
        texts += [(case, None) async for case in teacher.written(write, tell)]
    for case, answer in texts:
        if any(run in unseen for run in runs_of([case])):
            left_out["like a case that judges"] += 1
            continue
        origin = "answers given"
        if answer is None:
            if teacher is None:
                raise CompressFailed(f"{case.id} has no answer; give one, or leave --no-teacher out")
            answer, origin = await teacher.answer(case), "answers of the teacher"
            tell()
        if answer is None or (len(expected) <= FEW_ANSWERS and answer not in expected):
            left_out["no answer of the kind"] += 1
            continue
        rows.append(subject.example(case, answer))
        origins[origin] += 1
    chosen_by = tuple(subject.example(one.case, one.answer) for one in validation)
    made_from = marks(case for case in subject.suite.cases if case.split is not Split.HELD_OUT)
    return Lesson(tuple(rows), chosen_by, origins, left_out, made_from)


class Teacher:
    """A larger model that answers, shown train cases, and writes more texts like theirs."""

    def __init__(self, subject: Subject, ask: Ask, tier: str, seed: int) -> None:
        self._subject, self._ask, self._tier = subject, ask, tier
        self._train = subject.known(Split.TRAIN)
        self._random = Random(seed)  # noqa: S311  # chooses examples, keeps no secret
        self._shots = balanced(self._train, SHOTS, self._random)
        self._said = renderer(subject.template, tier)
        self._parameters = parameters_of(subject.template, tier)

    async def answer(self, case: Case) -> str | None:
        """None where it gives none."""
        try:
            messages = list(self._said(case))
        except VariablesRefused as refused:
            raise CompressFailed(f"{case.id}: {refused}") from refused
        answer = await self._ask(list(self._with_shots(messages)), self._parameters)
        return answer.text.strip() or None if answer.error is None else None

    async def written(self, count: int, tell: Callable[[], None]) -> AsyncIterator[Case]:
        """At most *count*, each another text. Raises CompressFailed for a prompt of several variables."""
        name = self._variable()
        there = {_folded(str(one.case.vars[name])) for one in self._train}
        made = 0
        for number in range(count * TRIES):
            text = await self._one(name, number)
            tell()
            if text is None or _folded(text) in there:
                continue
            there.add(_folded(text))
            yield Case(f"text {number + 1}", (), {name: text})
            made += 1
            if made == count:
                return

    async def _one(self, name: str, number: int) -> str | None:
        wanted = self._train[number % len(self._train)].answer
        alike = [one for one in self._train if one.answer == wanted]
        shown = self._random.sample(alike, min(INSPIRATIONS, len(alike)))
        listed = "\n".join(f"- {one.case.vars[name]}" for one in shown)
        asked = (
            f"These are texts for which the right answer is {wanted!r}:\n{listed}\n"
            "Write one more for which it is, about something else and in other words. Write the text alone."
        )
        parameters = {"temperature": 1.0, "top_p": 0.95, "seed": number, "max_tokens": WRITING_TOKENS}
        answer = await self._ask([{"role": "user", "content": asked}], parameters)
        text = answer.text.strip().removeprefix("- ").strip().strip('"')
        return text if answer.error is None and len(text) > 0 and "\n" not in text else None

    def _with_shots(self, messages: Sequence[Message]) -> Iterator[Message]:
        last = max(place for place, message in enumerate(messages) if message["role"] == "user")
        yield from messages[:last]
        for shot in self._shots:
            yield {"role": "user", "content": list(self._said(shot.case))[-1]["content"]}
            yield {"role": "assistant", "content": shot.answer}
        yield from messages[last:]

    def _variable(self) -> str:
        names = {name for one in self._train for name in one.case.vars}
        if len(names) != 1:
            raise CompressFailed(
                f"{self._subject.template.id} has {len(names)} variables; texts are written for prompts with one: give "
                "texts with --data instead of --write"
            )
        return names.pop()


def remembering(ask: Ask, kept: Kept, build: str) -> Ask:
    """*ask* of *build*, which is not asked again what it has answered: an interrupted lesson comes out the same."""

    async def asked(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        key = digest(["lesson", build, list(messages), dict(parameters)])
        answer = kept.get(key)
        if answer is None:
            answer = await ask(messages, parameters)
            if answer.error is None:
                kept[key] = answer
        return answer

    return asked


def runs_of(cases: Iterator[Case] | Sequence[Case]) -> Iterator[tuple[str, ...]]:
    """Every run of RUN_WORDS words of their variables."""
    for case in cases:
        for value in case.vars.values():
            words = _folded(str(value)).split()
            for start in range(len(words) - RUN_WORDS + 1):
                yield tuple(words[start : start + RUN_WORDS])


def _folded(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
