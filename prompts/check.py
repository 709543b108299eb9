"""May this template be served? What is wrong with it, each with its place and remedy; `lint` says what could be better.

Every door to the library asks this, files and records and drafts alike: a template in which it finds something is not
kept.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from prompts.partials import circles, included, wrong_includes
from prompts.render import RenderFailed, compiled, environment, explained
from prompts.sample import sample_values
from prompts.tags import TagTooLong, check_tags
from prompts.template import BASE, ID, TIER, Template, Text
from prompts.variables import NAME, UNTRUSTED, VOLATILITY, InputsError, Volatility, is_untrusted, schema_for
from prompts.yamlfile import Loc

MOST_CHARACTERS = 64 * 1024  # of one text: some 16,000 tokens that every request would pay for
MOST_MESSAGES = 64
MOST_VARIANTS = 16
ROLES = ("system", "developer", "user", "assistant")
# What the template says elsewhere, or what only a client can know.
NO_PARAMETERS = frozenset(
    ("messages", "model", "prompt", "input", "response_format", "stream", "stream_options", "user", "metadata")
)
# The usual ones: a name close to one of these is a slip; another is the engine's own.
PARAMETERS = frozenset(
    (
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repetition_penalty",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "verbosity",
    )
)
GLOBALS = frozenset(("dict", "namespace", "range"))  # what the engine itself knows
WORDS = ("and", "caller", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "self", "super", "true")
RESERVED = GLOBALS.union(WORDS)


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Place:
    """`source`: `base`, a tier or `_partials/NAME`. `loc`: in its file. `line`, `column`: in the text there, from 1."""

    source: str
    loc: Loc = ()
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    severity: Severity
    place: Place
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Source:
    """One text that the engine reads: where it stands, and with what role; a partial's are those that include it."""

    place: Place
    text: str
    roles: frozenset[str]


def errors(template: Template, partials: Collection[str] = ()) -> list[Finding]:
    """*partials*: the names of all that the library has, for saying which one may have been meant."""
    found = [*_shape(template), *_inputs(template)]
    sources = list(sources_of(template))
    for source in sources:
        found += _text(source, {*partials, *template.partials})
    found += [
        _error("cyclic-partial", _at(partial_place(name), template.partials[name], wrong.offset), wrong.remedy)
        for name, wrong in circles(template.partials)
    ]
    return found or list(_names(template, sources)) or list(_words(template))


def partial_place(name: str) -> Place:
    return Place(f"_partials/{name}")


def sources_of(template: Template) -> Iterator[Source]:
    """The messages of all variants, then the partials that they include."""
    reached: dict[str, set[str]] = {name: set() for name in template.partials}
    for variant, place, part in template.all_parts():
        if isinstance(part, Text):
            yield Source(Place(variant, ("messages", place, "content")), part.content, frozenset((part.role,)))
            for name in _reached(part.content, template.partials):
                reached[name].add(part.role)
    for name, text in template.partials.items():
        yield Source(partial_place(name), text, frozenset(reached[name]))


def used_names(text: str) -> frozenset[str]:
    """The variables that *text* reads, itself. Raises TemplateError or TagTooLong for what does not parse."""
    check_tags(text)
    return frozenset(environment({}).undeclared_variables_in_str(text)) - GLOBALS


def used_by(template: Template, variant: str) -> frozenset[str]:
    """The variables that a variant's messages read, those of the partials that they include too."""
    texts = [part.content for part in template.parts(variant) if isinstance(part, Text)]
    texts += [template.partials[name] for name in {n for text in texts for n in _reached(text, template.partials)}]
    return frozenset().union(*map(used_names, texts))


def text_errors(source: Source) -> Iterator[Finding]:
    """Whether one text parses; says nothing of the names in it."""
    from minijinja import TemplateError

    if len(source.text) > MOST_CHARACTERS:
        says = f"has {len(source.text):,} characters; {MOST_CHARACTERS:,} is the most"
        yield Finding("too-long", Severity.ERROR, source.place, says, "say it shorter, or make a part of it a variable")
        return
    try:
        used_names(source.text)
    except TagTooLong as error:
        yield _error("too-long", _at(source.place, source.text, error.offset), str(error))
    except TemplateError as error:
        offset = len(source.text.encode()[: error.range[0]].decode(errors="ignore")) if error.range else None
        place = _at(source.place, source.text, offset) if offset is not None else source.place
        yield Finding("syntax", Severity.ERROR, place, explained(error).says, "templates are written as in Jinja")


def _reached(text: str, partials: Mapping[str, str]) -> frozenset[str]:
    return frozenset(included([text], partials))


def _shape(template: Template) -> Iterator[Finding]:
    base = Place(BASE)
    if not ID.fullmatch(template.id):
        yield _error(
            "id", base, f"{template.id!r} is no name of a prompt; use a-z, 0-9, - and _, with / between folders"
        )
    if len(template.variants) > MOST_VARIANTS:
        yield _error("variants", base, f"has {len(template.variants)} variants; {MOST_VARIANTS} is the most")
    for tier in template.variants:
        if not TIER.fullmatch(tier) or tier == BASE:
            yield _error("tier", Place(tier), f"{tier!r} is no name of a tier; use a-z, 0-9, - and _, a letter first")
    for variant in (BASE, *template.variants):
        parts = template.parts(variant)
        place = Place(variant, ("messages",))
        texts = [part for part in parts if isinstance(part, Text)]
        if not texts or len(parts) > MOST_MESSAGES:
            yield _error("messages", place, f"there must be 1 to {MOST_MESSAGES} messages")
        if len(parts) - len(texts) > 1:
            yield _error(
                "placeholder", place, "there is more than one placeholder; the client's messages go to one place"
            )
        if variant == BASE or template.variants[variant].messages is not None:
            for number, part in enumerate(parts):
                if isinstance(part, Text) and part.role not in ROLES:
                    says = f"{part.role!r} is no role; use one of {', '.join(ROLES)}"
                    yield _error("role", Place(variant, ("messages", number, "role")), says)
        own = template.parameters if variant == BASE else template.variants[variant].parameters
        yield from _parameters(variant, own)
    yield from _routing(template)


def _parameters(variant: str, parameters: Mapping[str, Any]) -> Iterator[Finding]:
    for name in parameters:
        place = Place(variant, ("modelParameters", name))
        if name in NO_PARAMETERS:
            yield _error("parameter", place, "is no parameter of the model; take it out")
        elif name not in PARAMETERS and (near := difflib.get_close_matches(name, sorted(PARAMETERS), n=1, cutoff=0.75)):
            yield _error("parameter", place, f"is no parameter of the model; did you mean {near[0]}?")


def _routing(template: Template) -> Iterator[Finding]:
    routing = template.routing
    properties = template.inputs.get("properties", {})
    if routing.bar is not None and not 0 < routing.bar < 1:
        yield _error("bar", Place(BASE, ("routing", "bar")), "must be between 0 and 1, as 0.95")
    for number, name in enumerate(routing.stratify_by):
        if isinstance(properties, Mapping) and name not in properties:
            place = Place(BASE, ("routing", "stratify_by", number))
            yield _error("stratify", place, f"{name!r} is no variable of inputs{_nearest(name, properties)}")
    if routing.tiers is not None and not routing.tiers:
        yield _error(
            "tiers", Place(BASE, ("routing", "tiers")), "is empty; name a tier, or leave it out for all of them"
        )
    for tier in template.variants:
        if routing.tiers is not None and tier not in routing.tiers:
            says = f"is for the tier {tier}, which routing.tiers leaves out; add it there, or delete the variant"
            yield _error("tiers", Place(tier), says)


def _inputs(template: Template) -> Iterator[Finding]:
    schema = template.inputs
    if schema.get("type") != "object":
        yield _inputs_error(("type",), "must be object: the variables by name")
    if schema.get("additionalProperties") is not False:
        yield _inputs_error(("additionalProperties",), "must be false, or left out: what has no name here is refused")
    if "patternProperties" in schema:
        yield _inputs_error(
            ("patternProperties",), "a template can use no variables but those of properties; name them"
        )
    if "2020-12" not in str(schema.get("$schema", "2020-12")):
        yield _inputs_error(("$schema",), "must be that of draft 2020-12, or left out")
    properties = schema.get("properties", {})
    try:
        schema_for(schema)
        if template.response_format and "json_schema" in template.response_format:
            _answers(template.response_format)
    except InputsError as error:
        yield _inputs_error(error.loc, str(error))
        return
    for name, said in properties.items():
        if not NAME.fullmatch(name):
            says = "is no name of a variable; use letters, digits and _, a letter first, 64 at most"
            yield _inputs_error(("properties", name), says)
        if name.lower() in RESERVED:
            yield _inputs_error(("properties", name), "is a word of the template language; call the variable otherwise")
        if isinstance(said, Mapping):
            if VOLATILITY in said and said[VOLATILITY] not in set(Volatility):
                says = f"must be one of {', '.join(Volatility)}"
                yield _inputs_error(("properties", name, VOLATILITY), says)
            if UNTRUSTED in said and not isinstance(said[UNTRUSTED], bool):
                yield _inputs_error(("properties", name, UNTRUSTED), "must be true or false")
    yield from _defaults(schema)


def _defaults(schema: Mapping[str, Any]) -> Iterator[Finding]:
    properties = schema.get("properties", {})
    defaults = {
        name: said["default"] for name, said in properties.items() if isinstance(said, Mapping) and "default" in said
    }
    found = schema_for({**schema, "required": []})
    accepted = found.accepts(defaults, len(orjson.dumps(defaults)))
    if accepted is None:
        yield _inputs_error(("properties",), "have defaults that are too much to check by what inputs say; simplify it")
    for error in found.mistakes(defaults) if accepted is False else ():
        if error.instance_path:
            name, *rest = error.instance_path
            loc = ("properties", str(name), "default", *rest)
            yield _inputs_error(loc, f"is not what inputs say: {error.message}; change it, or the schema")


def _answers(response_format: Mapping[str, Any]) -> None:
    """Raises InputsError for a form of answers that is no schema."""
    said = response_format["json_schema"]
    schema = said.get("schema") if isinstance(said, Mapping) else None
    if not isinstance(schema, Mapping):
        raise InputsError((), "responseFormat.json_schema.schema must be a JSON Schema")
    schema_for(schema)


def _text(source: Source, partials: Collection[str]) -> Iterator[Finding]:
    for wrong in wrong_includes(source.text, partials):
        yield _error("partial", _at(source.place, source.text, wrong.offset), wrong.remedy)
    yield from text_errors(source)


def _names(template: Template, sources: Sequence[Source]) -> Iterator[Finding]:
    """Every name that a text reads is a variable, and those of strangers are in the user's messages only."""
    properties = template.inputs.get("properties", {})
    untrusted = {name for name, said in properties.items() if is_untrusted(said)}
    for source in sources:
        used = used_names(source.text)
        for name in sorted(used - properties.keys()):
            place = _at(source.place, source.text, source.text.find(name))
            says = f"{name!r} is no variable of inputs{_nearest(name, properties)}"
            yield Finding("undeclared", Severity.ERROR, place, says, "name it in inputs.properties, or take it out")
        others = source.roles - {"user"}
        for name in sorted(used & untrusted if others else ()):
            place = _at(source.place, source.text, source.text.find(name))
            says = f"{name!r} is untrusted, and stands in a message of the {' and the '.join(sorted(others))}"
            yield Finding("untrusted", Severity.ERROR, place, says, "move it to a message of the user")


def _words(template: Template) -> Iterator[Finding]:
    """Filters, tests and functions that the engine does not have: it looks for them when it comes to them."""
    for variant in (BASE, *template.variants):
        try:
            list(compiled(template).messages(variant, sample_values(template), ()))
        except RenderFailed as error:
            kind = str(getattr(error.__cause__, "kind", ""))
            if kind.startswith("Unknown") and kind != "Unknown":
                place = Place(variant, ("messages", error.place, "content"), None if error.partial else error.line, 1)
                yield Finding("word", Severity.ERROR, place, error.says, "use one of the template language")


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _at(place: Place, text: str, offset: int) -> Place:
    before = text[: max(offset, 0)]
    return Place(place.source, place.loc, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _inputs_error(loc: Loc, says: str) -> Finding:
    return _error("inputs", Place(BASE, ("inputs", *loc)), says)


def _error(code: str, place: Place, says: str) -> Finding:
    message, _, remedy = says.partition("; ")
    return Finding(code, Severity.ERROR, place, message, remedy)
