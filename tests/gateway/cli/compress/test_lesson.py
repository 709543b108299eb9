"""What a model is taught: where each example comes from, and that nothing of the cases that judge is among them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.compress.lesson import Lesson, Subject, Teacher, given_texts, lesson, runs_of
from gateway.cli.compress.running import CompressFailed
from prompts.answer import Answer
from prompts.folder import load
from prompts.message import Message
from prompts.suite import Case, Split
from prompts.suite_file import load_suite

TENANTS = Path(__file__).parents[4] / "prompts" / "examples"


@pytest.fixture(scope="module")
def subject() -> Subject:
    folder = load(TENANTS)
    prompt = folder.prompts["tenants"]
    return Subject(prompt.template, "small", load_suite(prompt.documents["base"].file.path.parent, folder.policy.tiers))


def teacher_of(subject: Subject, say: Callable[[Sequence[Message], Mapping[str, Any]], str]) -> Teacher:
    async def ask(messages: Sequence[Message], parameters: Mapping[str, Any]) -> Answer:
        return Answer(text=say(messages, parameters))

    return Teacher(subject, ask, "large", seed=0)


async def learnt(
    subject: Subject, *given: tuple[str, str | None], teacher: Teacher | None = None, write: int = 0
) -> Lesson:
    texts = [(Case(f"line {n}", (), {"message": text}), answer) for n, (text, answer) in enumerate(given)]
    return await lesson(subject, texts, teacher, write, lambda: None)


@pytest.mark.anyio
async def test_it_learns_train_cases_and_is_chosen_by_validation_cases(subject: Subject) -> None:
    made = await learnt(subject)

    assert dict(made.origins) == {"train cases": len(subject.suite.only(Split.TRAIN).cases)}
    assert len(made.validation) == len(subject.suite.only(Split.VALIDATION).cases)
    said = {row["messages"][-1]["content"] for row in (*made.examples, *made.validation)}
    assert not said & {case.vars["message"] for case in subject.suite.only(Split.HELD_OUT).cases}


@pytest.mark.anyio
async def test_a_text_that_is_like_a_held_out_case_is_left_out(subject: Subject) -> None:
    held_out = next(case for case in subject.suite.only(Split.HELD_OUT).cases if any(runs_of([case])))
    like = f"Hello! {held_out.vars['message']} Thanks"

    made = await learnt(subject, (like, "rent"), ("The basin in the guest room has come away.", "repairs"))

    assert dict(made.left_out) == {"like a case that judges": 1}
    assert made.origins["answers given"] == 1


@pytest.mark.anyio
async def test_the_teacher_answers_what_has_no_answer_shown_train_cases_alone(subject: Subject) -> None:
    seen: list[Sequence[Message]] = []

    def say(messages: Sequence[Message], _: Mapping[str, Any]) -> str:
        seen.append(messages)
        return " repairs\n"

    made = await learnt(subject, ("The basin has come away.", None), teacher=teacher_of(subject, say))

    assert made.examples[-1]["answer"] == "repairs"
    assert made.origins["answers of the teacher"] == 1
    [messages] = seen
    train = {case.vars["message"] for case in subject.suite.only(Split.TRAIN).cases}
    shots = [m["content"] for m in messages if m["role"] == "user"][:-1]
    assert len(shots) == 12
    assert set(shots) <= train


@pytest.mark.anyio
async def test_an_answer_of_another_kind_is_not_taught(subject: Subject) -> None:
    teacher = teacher_of(subject, lambda *_: "I think it is repairs")

    made = await learnt(subject, ("The basin has come away.", None), teacher=teacher)

    assert dict(made.left_out) == {"no answer of the kind": 1}


@pytest.mark.anyio
async def test_texts_are_written_for_each_answer_and_none_twice(subject: Subject) -> None:
    """A teacher that repeats itself is asked three times as often as texts are wanted, and then no more."""
    asked = 0

    def say(messages: Sequence[Message], parameters: Mapping[str, Any]) -> str:
        nonlocal asked
        if "seed" not in parameters:
            return "rent"
        asked += 1
        return f"- Sentence about thing {asked // 2}"

    made = await learnt(subject, teacher=teacher_of(subject, say), write=4)

    assert made.origins["answers of the teacher"] == 4
    said = [row["messages"][-1]["content"] for row in made.examples[-4:]]
    assert said == [f"Sentence about thing {n}" for n in range(4)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nothing", r'data.jsonl:2: not of the form {"vars": {...}, "answer": "..."}'),
        ('{"vars": 3}', "data.jsonl:2: vars is an object"),
        ('{"vars": {}, "answer": 3}', "data.jsonl:2: vars is an object, and answer a text or left out"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"vars": {"message": "a"}, "answer": "rent"}\n' + line)

    with pytest.raises(CompressFailed) as told:
        given_texts(path)
    assert says in str(told.value)
