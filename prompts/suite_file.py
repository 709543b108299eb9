"""How a suite is written: `tests.yaml`, and beside it `cases.jsonl` where there are many. Every mistake is told by
file, line and key; a suite with one is not used at all.

Promptfoo's words: `tests`, `vars`, `assert` with `type`, `value`, `threshold`, `weight`, `metric`, and `defaultTest`.
Unlike there, a value is what it says: `{{ name }}` in it is not filled in, and refused where it seems to be meant so.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from prompts.assertions import MOST_VALUE_CHARACTERS, kind_named, problem_with
from prompts.assertions.kind import Assertion
from prompts.canonical import canonical, not_json
from prompts.suite import MOST_CASES, Bars, Case, Suite, content_id, inputs_digest
from prompts.yamlfile import Problem, YamlError, YamlFile, one_line, parse_yaml, problems_in

TESTS, CASES = "tests.yaml", "cases.jsonl"
MOST_TESTS_BYTES = 1024 * 1024
MOST_CASES_BYTES = 32 * 1024 * 1024
MOST_ASSERTIONS = 50  # of one case
MOST_REPEATS = 50
MOST_TAGS = 16
MOST_TOLD = 20  # mistakes of one suite

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_BAR = re.compile(r"(safe-)?0?\.\d{1,6}|1(\.0+)?")
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


class SuiteError(ValueError):
    """A suite cannot be used; the message has a line for every mistake in it."""


def _bar(written: Any) -> str:
    text = f"{written:g}" if isinstance(written, float) else str(written)
    if isinstance(written, bool) or not _BAR.fullmatch(text) or not float(text.removeprefix("safe-")):
        raise ValueError(
            "a bar is a pass-rate such as 0.9, a margin under the safe tier such as safe-0.1, or 1 for every case"
        )
    return "1" if text.startswith("1") else text


WrittenBar = Annotated[str, BeforeValidator(_bar)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Assertion(_Strict):
    type: str
    value: Any = None
    threshold: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    metric: Name | None = None

    @field_validator("type")
    @classmethod
    def _known(cls, name: str) -> str:
        kind_named(name)
        return name

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(canonical(self.value)) > MOST_VALUE_CHARACTERS:
            raise ValueError(f"{self.type} has a value of more than {MOST_VALUE_CHARACTERS:,} characters")
        if problem := problem_with(self.made()):
            raise ValueError(problem)
        return self

    def made(self) -> Assertion:
        kind, negated = kind_named(self.type)
        return Assertion(kind, negated, self.value, self.threshold, self.tolerance, self.weight, self.metric)


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    role: str = Field(min_length=1)


class _Test(_Strict):
    """`defaultTest`, and what a case has in common with it."""

    vars: dict[str, Any] = {}
    assertions: tuple[_Assertion, ...] = Field(default=(), alias="assert", max_length=MOST_ASSERTIONS)
    tags: tuple[Name, ...] = Field(default=(), max_length=MOST_TAGS)
    repeat: int | None = Field(default=None, ge=1, le=MOST_REPEATS)
    min_pass: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, ge=0, le=1)


class _Case(_Test):
    id: Name | None = None
    description: str = Field(default="", max_length=1000)
    messages: tuple[_Message, ...] = ()


class _Gate(BaseModel):
    """Its further keys are tiers."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, WrittenBar] = Field(init=False)

    default: WrittenBar | None = None
    tags: dict[Name, WrittenBar] = {}
    metrics: dict[Name, WrittenBar] = {}


class _Tests(_Strict):
    description: str = ""
    gate: _Gate = _Gate()
    default_test: _Test = Field(default=_Test(), alias="defaultTest")
    tests: tuple[_Case, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a case is written."""

    file: YamlFile | Path
    line: int
    loc: tuple[int | str, ...] = ()

    def tell(self, problem: Problem) -> str:
        if isinstance(self.file, YamlFile):
            return self.file.tell(Problem((*self.loc, *problem.loc), problem.holds, problem.remedy))
        where = ".".join(map(str, problem.loc))
        return one_line(": ".join(filter(None, (f"{self.file}:{self.line}", where, problem.holds, problem.remedy))))

    def __str__(self) -> str:
        return f"{self.file.path.name if isinstance(self.file, YamlFile) else self.file.name}:{self.line}"


def load_suite(folder: Path, tiers: Iterable[str] | None = None) -> Suite:
    """The suite in *folder*. *tiers*: those that a bar may be for; None takes any name.

    Raises SuiteError, also where there is none.
    """
    tests, cases = (_read(folder / TESTS, MOST_TESTS_BYTES), _read(folder / CASES, MOST_CASES_BYTES))
    if tests is None and cases is None:
        raise SuiteError(f"{folder}: has no tests; write {TESTS}")
    return parse_suite(folder, tests or "", cases or "", tiers)


def parse_suite(folder: Path, tests: str, cases: str = "", tiers: Iterable[str] | None = None) -> Suite:
    """As `load_suite`, of texts that are not read from *folder*. Raises SuiteError."""
    for name, text, most in ((TESTS, tests, MOST_TESTS_BYTES), (CASES, cases, MOST_CASES_BYTES)):
        if len(text) > most:
            raise SuiteError(f"{folder / name}: is larger than {most:,} bytes")
    file, raw = _yaml(folder / TESTS, tests)
    written = [(_Place(file, file.line(("tests", i)), ("tests", i)), case) for i, case in enumerate(raw.tests)]
    problems: list[str] = []
    written += _lines(folder / CASES, cases, problems)
    if len(written) > MOST_CASES:
        raise SuiteError(f"{folder}: has {len(written):,} cases; {MOST_CASES:,} are the most")
    made = [(place, _made(case, raw.default_test)) for place, case in written]
    problems += _problems(made)
    problems += [file.tell(problem) for problem in _of_gate(raw.gate, [case for _, case in made], tiers)]
    if not problems and not made:
        problems = [f"{folder / TESTS}: has no cases; write them under tests"]
    if problems:
        more = [f"... and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
        raise SuiteError("\n".join(problems[:MOST_TOLD] + more))
    gate = raw.gate
    bars = Bars(gate.default, dict(gate.__pydantic_extra__ or {}), dict(gate.tags), dict(gate.metrics))
    return Suite(tuple(case for _, case in made), bars)


def _read(path: Path, most: int) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise SuiteError(f"{path}: is larger than {most:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 at byte {error.start}") from error


def _yaml(path: Path, text: str) -> tuple[YamlFile, _Tests]:
    try:
        file = parse_yaml(path, text, None)
    except YamlError as error:
        raise SuiteError(str(error)) from error
    if problem := not_json(file.value):
        raise SuiteError(file.tell(problem))
    try:
        return file, _Tests.model_validate(file.value if file.value is not None else {})
    except ValidationError as error:
        told = file.tell_all(problems_in(_Tests, error)).splitlines()
        more = [f"... and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
        raise SuiteError("\n".join(told[:MOST_TOLD] + more)) from error


def _lines(path: Path, text: str, problems: list[str]) -> Iterator[tuple[_Place, _Case]]:
    """The cases of one JSON object a line; what is none is told in *problems*."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = _Place(path, number)
        if number > MOST_CASES * 2 or len(problems) > MOST_TOLD:
            return
        try:
            value = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            problems.append(place.tell(Problem((), None, f"not a JSON object on one line: {said}")))
            continue
        if problem := not_json(value):
            problems.append(place.tell(problem))
            continue
        try:
            yield place, _Case.model_validate(value)
        except ValidationError as error:
            problems += [place.tell(problem) for problem in problems_in(_Case, error)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:place]))
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return made


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _made(case: _Case, usual: _Test) -> Case:
    """*case*, with what `defaultTest` says where it says nothing; assertions and tags come together."""
    variables = {**usual.vars, **case.vars}
    messages = tuple(message.model_dump() for message in case.messages)
    repeat = case.repeat or usual.repeat or 1
    least = case.min_pass or (usual.min_pass if case.repeat is None else None)
    return Case(
        id=case.id or content_id(variables, messages),
        assertions=tuple(written.made() for written in (*usual.assertions, *case.assertions)),
        vars=variables,
        messages=messages,
        tags=tuple(dict.fromkeys((*usual.tags, *case.tags))),
        repeat=repeat,
        min_pass=repeat if least is None else least,
        threshold=usual.threshold if case.threshold is None else case.threshold,
        description=case.description,
    )


def _problems(made: list[tuple[_Place, Case]]) -> Iterator[str]:
    """What is wrong with cases beside each other, and with what they take from `defaultTest`."""
    by_id: dict[str, _Place] = {}
    by_inputs: dict[str, _Place] = {}
    for place, case in made:
        inputs = inputs_digest(case.vars, case.messages)
        if (first := by_inputs.setdefault(inputs, place)) is not place:
            remedy = "for two assertions put both there, to ask twice write repeat; a case counts as a trial of its own"
            yield place.tell(Problem((), None, f"has the same vars and messages as {first}: {remedy}"))
        elif (first := by_id.setdefault(case.id, place)) is not place:
            yield place.tell(Problem(("id",), case.id, f"is the id of {first}, too"))
        if not any(assertion.weight for assertion in case.assertions):
            remedy = "has no assertion of weight over 0: every answer would pass; add one to assert"
            yield place.tell(Problem((), None, remedy))
        if case.min_pass > case.repeat:
            remedy = f"is more than the {case.repeat} times that it is answered; write repeat"
            yield place.tell(Problem(("min_pass",), str(case.min_pass), remedy))
        yield from (place.tell(Problem((), None, problem)) for problem in _meant_as_templates(case))


def _meant_as_templates(case: Case) -> Iterator[str]:
    for assertion in case.assertions:
        text = canonical(assertion.value).decode()
        named = next((name for name in _PLACEHOLDER.findall(text) if name in case.vars), None)
        if named is not None:
            yield f"{assertion.name}: {{{{ {named} }}}} in a value is not filled in; write the value itself"


def _of_gate(gate: _Gate, cases: list[Case], tiers: Iterable[str] | None) -> Iterator[Problem]:
    """Bars for what nobody has: a gate that asks for nothing would let everything through."""
    tags = frozenset(tag for case in cases for tag in case.tags)
    metrics = frozenset(a.metric for case in cases for a in case.assertions if a.metric)
    for key, bars, there in (("tags", gate.tags, tags), ("metrics", gate.metrics, metrics)):
        for name in bars:
            if name not in there:
                yield Problem(("gate", key, name), None, f"no case has it{_near(name, there)}")
    for name in gate.__pydantic_extra__ or {}:
        if tiers is not None and name not in (known := frozenset(tiers)):
            yield Problem(("gate", name), None, f"is no tier{_near(name, known | {'default', 'tags', 'metrics'})}")


def _near(name: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}" if known else ""
