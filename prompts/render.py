"""From a template and variables to messages. Knows no HTTP and no versions.

Each message is a template of its own, and what it renders to is never read as one: a variable's text can become neither
a message nor a role nor an expression.

This keeps the list of messages as the template says it. It does not keep a model from obeying what a variable's text
asks of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from prompts.message import FIXED_ROLES, Message
from prompts.partials import wrong_includes
from prompts.tags import check_tags
from prompts.template import Placeholder, Template
from prompts.variables import Inputs

if TYPE_CHECKING:
    from minijinja import Environment, TemplateError
    from minijinja._lowlevel import State

# Steps of one message; the engine counts one for an instruction and one for 64 bytes that it writes or reads. It counts
# one for a comparison, too, however long the two texts are: the slowest template known goes on for four seconds.
FUEL = 100_000
MOST_CHARACTERS = 4 * 1024 * 1024  # of all messages: a million tokens
MOST_COMPILED = 256  # versions kept ready, some 40 kB each
CLIENT_ROLES = frozenset({"user", "assistant", "tool", "function"})
_CAUSE = re.compile(r"caused by: (?P<says>[^\n]*) \(in (?P<source>[^\n]*):(?P<line>\d+)\)\s*\Z")
MESSAGE: Final = ":{variant}:{place}"  # what the engine knows a message by; no partial has a colon in its name


class MessagesRefused(ValueError):
    """A client sends messages that this prompt does not let in. `place`: which of them, from 0."""

    def __init__(self, prompt: str, place: int, says: str) -> None:
        self.prompt, self.place = prompt, place
        super().__init__(f"{prompt}: messages.{place}: {says}")


class RenderFailed(ValueError):
    """A template cannot say these variables; the fault is its own. `place`: which of the variant's messages, from 0.

    `line`, from 1: of its text, or of the partial's.
    """

    def __init__(
        self, prompt: str, variant: str, place: int, says: str, line: int | None = None, partial: str | None = None
    ) -> None:
        self.prompt, self.variant, self.place, self.says = prompt, variant, place, says
        self.line, self.partial = line, partial
        where = [f"{prompt} ({variant})", f"message {place}"]
        where += [f"partial {partial}"] if partial else []
        where += [f"line {line}"] if line else []
        super().__init__(f"{', '.join(where)}: {says}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template says. `variant` is `base` or the tier whose own text it is."""

    template: Template
    variant: str
    messages: list[Message]
    parameters: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        return self.template.id

    def over(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """*body*, a client's, with these messages. Its own parameters come first, but where the template locks them."""
        locked = self.template.locked
        own = dict(self.parameters)
        if self.template.response_format is not None:
            own["response_format"] = dict(self.template.response_format)
        asked = {name: value for name, value in body.items() if name not in locked or name not in own}
        return {**own, **asked, "messages": self.messages}


def render(
    template: Template,
    tier: str | None,
    variables: Mapping[str, Any],
    client_messages: Sequence[Message] = (),
) -> Rendered:
    """What *template* says to *tier*, with the client's own messages in their place.

    Raises VariablesRefused, MessagesRefused, RenderFailed, and for a template that `check` refuses ValueError.
    """
    ready = compiled(template)
    values = ready.inputs.checked(template.id, variables)
    if client_messages and not template.client_system:
        _check_roles(template.id, client_messages)
    variant = template.variant(tier)
    messages = list(ready.messages(variant, values, client_messages))
    return Rendered(template, variant, messages, template.parameters_of(variant))


@lru_cache(maxsize=MOST_COMPILED)
def compiled(template: Template) -> "Compiled":
    """*template* made ready. Kept by its digest, as a version never changes."""
    return Compiled(template)


class Compiled:
    """The messages of every variant as the engine's templates, and the inputs as a validator.

    Raises ValueError for a template that `check` refuses, where it would be dangerous to read.
    """

    __slots__ = ("_environment", "_plans", "_prompt", "inputs")

    def __init__(self, template: Template) -> None:
        self.inputs = Inputs(template.inputs)
        self._prompt = template.id
        names = ("base", *template.variants)
        self._plans = {
            variant: tuple(
                None if isinstance(part, Placeholder) else (part.role, MESSAGE.format(variant=variant, place=place))
                for place, part in enumerate(template.parts(variant))
            )
            for variant in names
        }
        sources = {
            MESSAGE.format(variant=variant, place=place): part.content
            for variant in names
            for place, part in enumerate(template.parts(variant))
            if not isinstance(part, Placeholder)
        }
        for text in (*template.partials.values(), *sources.values()):
            check_tags(text)
            for wrong in wrong_includes(text, template.partials):
                raise ValueError(f"{template.id}: {wrong.remedy}")
        self._environment = environment({**template.partials, **sources})

    def messages(
        self, variant: str, values: Mapping[str, Any], client_messages: Sequence[Message]
    ) -> Iterable[Message]:
        """Raises RenderFailed."""
        plan, left = self._plans[variant], MOST_CHARACTERS
        for place, said in enumerate(plan):
            if said is None:
                yield from client_messages
                continue
            role, name = said
            content = self._content(variant, place, name, values)
            left -= len(content)
            if left < 0:
                says = f"the messages have more than {MOST_CHARACTERS:,} characters; send less, or limit a maxLength"
                raise RenderFailed(self._prompt, variant, place, says)
            yield {"role": role, "content": content}
        if None not in plan:
            yield from client_messages

    def _content(self, variant: str, place: int, name: str, values: Mapping[str, Any]) -> str:
        from minijinja import TemplateError

        try:
            return self._environment.render_template(name, **values)
        except TemplateError as error:
            told = explained(error)
            partial = None if told.source in (None, name) else told.source
            raise RenderFailed(self._prompt, variant, place, told.says, told.line, partial) from error
        except (orjson.JSONEncodeError, OverflowError) as error:
            raise RenderFailed(self._prompt, variant, place, f"what it writes is not JSON: {error}") from error


def environment(sources: Mapping[str, str]) -> "Environment":
    """An engine that knows *sources*, by name, and nothing else: no files, no clock, no chance, no Python."""
    from minijinja import Environment, pass_state

    made = Environment(
        loader=sources.get,
        fuel=FUEL,
        undefined_behavior="strict",
        debug=False,
        pycompat=False,
        auto_escape_callback=_as_it_is,
        finalizer=_written,
    )
    made.remove_global("debug")  # shows all variables
    made.add_filter("tojson", pass_state(_to_json))
    return made


@dataclass(frozen=True, slots=True)
class Explained:
    """What went wrong in a text, and what to do about it. `source`: the name that the engine has for the text."""

    says: str
    source: str | None
    line: int | None


def explained(error: "TemplateError") -> Explained:
    says, source, line = str(error.message), error.name, error.line
    if cause := _CAUSE.search(str(error)):  # of what an include has brought, it tells in words only
        says, source, line = cause["says"], cause["source"], int(cause["line"])
    says = says.rpartition(" (in ")[0] or says
    if says.startswith("engine ran out of fuel"):
        says = f"takes more than {FUEL:,} steps; loop over less, or limit the variable's maxLength or maxItems"
    elif says.startswith("undefined value"):
        says = "uses a value that is not there; make it required in inputs, or ask whether it is defined"
    return Explained(says, source, line)


def _as_it_is(name: str) -> None:
    """Nothing is escaped, whatever a template is called: a message is no HTML."""


def _written(value: Any) -> str:
    """How a value stands in a message: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _to_json(state: "State", value: Any, indent: object = None) -> str:
    """The engine's own writes < > & as escapes, for HTML. That one is counted by the engine, this one here."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode()
    written = len(text) + state.get_temp("written", 0)
    if written > MOST_CHARACTERS:
        raise OverflowError(f"more than {MOST_CHARACTERS:,} characters of it")
    state.set_temp("written", written)
    return text


def _check_roles(prompt: str, messages: Sequence[Message]) -> None:
    for place, message in enumerate(messages):
        role = message.get("role")
        if isinstance(role, str) and role in FIXED_ROLES:
            says = f"this prompt has its own {role} messages; leave yours out, or set client_system: true in the prompt"
            raise MessagesRefused(prompt, place, says)
        if not isinstance(role, str) or role not in CLIENT_ROLES:
            raise MessagesRefused(prompt, place, f"the role must be one of {', '.join(sorted(CLIENT_ROLES))}")
