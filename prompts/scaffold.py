"""A first draft of a prompt from a task in words and examples of it. What can be inferred is inferred; a model may
write the instruction, and nothing else. Pure.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prompts.canonical import not_json
from prompts.check import errors
from prompts.suite import content_id
from prompts.template import ID, Routing, Template, Text
from prompts.variables import NAME

MOST_EXAMPLES = 1_000
MOST_BYTES = 4 * 1024 * 1024
MOST_LABELS = 12  # different answers, of which each comes twice at least: the examples choose among them
SHORT_WORDS = 6  # an answer of more is not expected word for word
QUOTE_WORDS = 3  # of an input: nobody writes the same by chance
LIKE = 0.7  # how near, 0 to 1, an answer in free words must be to the example's
INSTRUCTION_CHARACTERS = 2_000
ROOM = 4  # times the longest input that was seen
BAR = 0.8
SHOWN = 6  # examples, to the model that writes
REQUEST = """Write the system message for a language model. Its task: {task}

Examples of inputs and right answers:
{examples}

Say in a few plain sentences what to do and how to tell the answers apart. Do not repeat the examples. Do not say how
the answer is to be written: that is added."""
INSTRUCTION: Mapping[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "draft",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"instruction": {"type": "string", "minLength": 1}},
            "required": ["instruction"],
            "additionalProperties": False,
        },
    },
}


class BadExamples(ValueError):
    """Nothing can be drafted from these; the message has a line of the file and a remedy."""


@dataclass(frozen=True, slots=True)
class Example:
    """`inputs` by variable; `output` is JSON."""

    inputs: Mapping[str, Any]
    output: Any


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A draft, its cases as a suite's file has them, and who said what: by part, in words."""

    template: Template
    cases: tuple[Mapping[str, Any], ...]
    origins: Mapping[str, str]


def read_examples(text: str) -> tuple[Example, ...]:
    """From JSON lines, `{"input": ..., "output": ...}`; an input is a text, or an object of variables."""
    if len(text) > MOST_BYTES:
        raise BadExamples(f"the examples are larger than {MOST_BYTES:,} bytes; take some out")
    found: list[Example] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append(_example(number, line))
    if not found:
        raise BadExamples('there are no examples; write {"input": ..., "output": ...}, one on a line')
    if len(found) > MOST_EXAMPLES:
        raise BadExamples(f"there are {len(found):,} examples; {MOST_EXAMPLES:,} is the most")
    return tuple(found)


def _example(number: int, line: str) -> Example:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadExamples(f"line {number}: not JSON: {error}") from error
    if not isinstance(said, dict) or said.keys() != {"input", "output"}:
        raise BadExamples(f"line {number}: an example has input and output, and nothing else")
    if problem := not_json(said):
        raise BadExamples(f"line {number}: {problem.remedy}")
    inputs = said["input"] if isinstance(said["input"], dict) else {"text": said["input"]}
    if wrong := [name for name in inputs if not NAME.fullmatch(name)]:
        raise BadExamples(f"line {number}: {wrong[0]!r} is no name of a variable; use letters, digits and _")
    if not inputs:
        raise BadExamples(f"line {number}: the input is empty; name a variable")
    return Example(inputs, said["output"])


def scaffold(
    prompt: str, task: str, examples: Sequence[Example], instruction: str | None = None, writer: str = ""
) -> Scaffold:
    """*instruction*: what the model *writer* has written; where there is none, or it cannot be used, the task serves.

    Raises BadExamples for a prompt that the check refuses whatever the instruction is.
    """
    if not ID.fullmatch(prompt):
        raise BadExamples(f"{prompt!r} is no name of a prompt; use a-z, 0-9, - and _, with / between folders")
    form = form_of([example.output for example in examples])
    problem = refused(instruction, examples) if instruction is not None else "no model was asked"
    said = instruction if instruction is not None and problem is None else task
    template = _template(prompt, task, _escaped(said.strip()), examples, form)
    if problem is None:
        template = replace(template, fitted=tuple(content_id(e.inputs, ()) for e in examples[:SHOWN]))
    if found := errors(template):
        raise BadExamples(f"{found[0].place.source}: {found[0]}")
    inferred = f"inferred from {len(examples)} examples"
    origins = {
        "instruction": f"written by {writer}" if problem is None else f"your task, word for word ({problem})",
        "inputs": inferred,
        "form of the answer": f"{inferred}: {form.says}",
        "cases": f"the {len({repr(e.inputs) for e in examples})} examples themselves; {form.asserted}",
        "bar": f"{BAR}: a guess; set what you need",
    }
    return Scaffold(template, tuple(_cases(examples, form)), origins)


def request(task: str, examples: Sequence[Example]) -> str:
    """What a model is asked for the instruction."""
    shown = "\n".join(f"- {json.dumps(e.inputs, ensure_ascii=False)} -> {_written(e.output)}" for e in examples[:SHOWN])
    return REQUEST.format(task=task, examples=shown)


def refused(instruction: str, examples: Sequence[Example]) -> str | None:
    """Why the text of a model is not taken; None where it is."""
    text = instruction.strip()
    if not text:
        return "the model wrote nothing"
    if len(text) > INSTRUCTION_CHARACTERS:
        return f"the model wrote more than {INSTRUCTION_CHARACTERS:,} characters"
    if any(mark in text for mark in ("{{", "{%", "{#")):
        return "the model wrote template expressions"
    texts = (value for example in examples for value in example.inputs.values() if isinstance(value, str))
    if any(len(value.split()) >= QUOTE_WORDS and value.strip(" .!?").casefold() in text.casefold() for value in texts):
        return "the model quoted an example, which is a case"
    return None


@dataclass(frozen=True, slots=True)
class Form:
    """What the answers have in common. `line`: what the template says of it."""

    says: str
    line: str
    asserted: str
    kind: str
    response_format: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] | None = None


def form_of(outputs: Sequence[Any]) -> Form:
    """The narrowest form that all *outputs* have."""
    texts = [output for output in outputs if isinstance(output, str)]
    if len(texts) < len(outputs):
        schema = inferred(outputs)
        said = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        line = "Answer with JSON and nothing else."
        return Form("JSON", line, "an answer must be the same JSON", "equals", said)
    labels = sorted(set(texts))
    if len(labels) <= MOST_LABELS and all(texts.count(label) > 1 for label in labels):
        line = f"Answer with one of these and nothing else: {', '.join(labels)}."
        exact = "an answer must be the same"
        return Form(f"one of {len(labels)} answers", line, exact, "equals", parameters={"temperature": 0})
    if all(len(text.split()) <= SHORT_WORDS for text in texts):
        return Form("a few words", "Answer with a few words and nothing else.", "an answer must be the same", "equals")
    says = f"an answer must be like the example's (similar, {LIKE}), which is not yet right: write better assertions"
    return Form("free text", "", says, "similar")


def inferred(values: Sequence[Any]) -> dict[str, Any]:
    """A JSON Schema that all *values* pass, as people would write it."""
    kinds = sorted({_kind(value) for value in values})
    if kinds == ["integer", "number"]:
        kinds = ["number"]
    if len(kinds) > 1:
        return {"type": kinds}
    match kinds[0] if kinds else "string":
        case "object":
            names = list(dict.fromkeys(name for value in values for name in value))
            required = [name for name in names if all(name in value for value in values)]
            properties = {name: inferred([value[name] for value in values if name in value]) for name in names}
            return {
                "type": "object", "additionalProperties": False, "required": required, "properties": properties,
            }  # fmt: skip
        case "array":
            items = [item for value in values for item in value]
            return {"type": "array", "items": inferred(items)} if items else {"type": "array"}
        case kind:
            return {"type": kind}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _template(prompt: str, task: str, instruction: str, examples: Sequence[Example], form: Form) -> Template:
    inputs = inferred([dict(example.inputs) for example in examples])
    for name, schema in inputs["properties"].items():
        schema["x-untrusted"] = True
        if schema["type"] == "string":
            longest = max(len(e.inputs[name]) for e in examples if name in e.inputs)
            schema["maxLength"] = max(1_000, ROOM * longest)
    names = list(inputs["properties"])
    lines = [_slot(name, name in inputs["required"], len(names) == 1) for name in names]
    system = f"{instruction}\n{form.line}" if form.line else instruction
    return Template(
        id=prompt,
        description=re.sub(r"\s+", " ", task).strip()[:200],
        messages=(Text("system", system), Text("user", "".join(lines).strip("\n"))),
        inputs=inputs,
        parameters=form.parameters or {},
        response_format=form.response_format,
        routing=Routing(bar=BAR),
    )


def _slot(name: str, is_required: bool, is_alone: bool) -> str:
    if is_alone:
        return f"{{{{ {name} }}}}"
    line = f"{name}: {{{{ {name} }}}}\n"
    return line if is_required else f"{{% if {name} is defined %}}{line}{{% endif %}}"


def _escaped(text: str) -> str:
    return re.sub(r"\{(?=[{%#])", '{{ "{" }}', text)


def _cases(examples: Sequence[Example], form: Form) -> list[Mapping[str, Any]]:
    """One of each input; of two that are the same the first."""
    found: dict[str, Mapping[str, Any]] = {}
    for example in examples:
        said: dict[str, Any] = {"type": form.kind, "value": example.output}
        if form.kind == "similar":
            said["threshold"] = LIKE
        found.setdefault(json.dumps(example.inputs, sort_keys=True), {"vars": dict(example.inputs), "assert": [said]})
    return list(found.values())


def _written(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
