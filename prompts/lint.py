"""What could be better in a template that may be served: text that engines cannot keep, variables that nobody reads,
variants that have drifted. What is wrong, `check` says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prompts.check import Finding, Place, Severity, errors, sources_of, used_by, used_names
from prompts.render import RenderFailed, compiled
from prompts.sample import reordered, sample, sample_values
from prompts.template import BASE, Template
from prompts.variables import Volatility, volatility

EARLY_CHARACTERS = 256  # some 64 tokens; engines keep whole blocks of 16 and more
Counter = Callable[[str], int]  # tokens of a text, as a tier's model counts them
_CLIENT = "the client's messages"  # no variable has such a name
_END = "\x00"  # between messages, so that no text runs on into the next


@dataclass(frozen=True, slots=True)
class Prefix:
    """What every request of a variant begins with. `fixed_characters`: of all that no variable writes, there and later.

    `tokens`: of the prefix, by tier, for those whose tokens can be counted; without what a chat template adds.
    """

    variant: str
    characters: int
    fixed_characters: int
    tokens: Mapping[str, int]


def lint(
    template: Template,
    *,
    has_suite: bool = True,
    published: str | None = None,
    counters: Mapping[str, Counter] | None = None,
) -> list[Finding]:
    """All findings, errors first. *published*: the digest of the version that is served now. *counters*: by tier."""
    wrong = errors(template)
    if wrong:
        return wrong
    found = [*_about(template, has_suite, published), *_unused(template)]
    for variant in (BASE, *template.variants):
        found += [*_drifted(template, variant), *_rendered(template, variant, counters or {})]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def prefix(template: Template, variant: str, counters: Mapping[str, Counter] | None = None) -> Prefix | None:
    """The static prefix of a variant. None where it cannot be rendered with made-up values."""
    once, again = _said(template, variant, {}), _said(template, variant, _varied(template))
    if once is None or again is None:
        return None
    shared = _shared(once, again)
    fixed = sum(map(len, once)) - sum(_written(template, variant, name) for name in _varied(template))
    text = "\n".join(filter(None, shared))
    parts = template.parts(variant)
    told = {tier: count for tier, count in (counters or {}).items() if template.parts(template.variant(tier)) is parts}
    tokens = {tier: count(text) for tier, count in told.items()}
    return Prefix(variant, sum(map(len, shared)), max(fixed, 0), tokens)


def _about(template: Template, has_suite: bool, published: str | None) -> Iterator[Finding]:
    base = Place(BASE)
    if not template.description.strip():
        yield Finding("description", Severity.WARNING, base, "has no description", "say in a line what it is for")
    if not has_suite:
        says = "has no suite, so no version of it can earn a smaller model"
        yield Finding("suite", Severity.WARNING, base, says, "write tests.yaml beside it")
    if published is not None and published != template.digest:
        says = f"differs from the published version ({published[:12]})"
        yield Finding(
            "changed", Severity.NOTE, base, says, "publish it as a version of its own; that one stays as it is"
        )


def _unused(template: Template) -> Iterator[Finding]:
    used = frozenset().union(*(used_names(source.text) for source in sources_of(template)))
    for name in template.inputs.get("properties", {}):
        if name not in used and name not in template.routing.stratify_by:
            place = Place(BASE, ("inputs", "properties", name))
            yield Finding("unused", Severity.WARNING, place, f"no message reads {name!r}", "take it out, or write it")


def _drifted(template: Template, variant: str) -> Iterator[Finding]:
    """A variant whose answers depend on other variables than the base's do."""
    if variant == BASE or template.variants[variant].messages is None:
        return
    base, own = used_by(template, BASE), used_by(template, variant)
    for name in sorted(base ^ own):
        reads, not_reads = (BASE, variant) if name in base else (variant, BASE)
        says = f"{reads} reads {name!r}, and {not_reads} does not"
        place = Place(variant, ("messages",))
        yield Finding("variant", Severity.WARNING, place, says, "one prompt has one input: read it in both, or in none")


def _rendered(template: Template, variant: str, counters: Mapping[str, Counter]) -> Iterator[Finding]:
    own = variant == BASE or template.variants[variant].messages is not None
    if not own:
        return
    place = Place(variant, ("messages",))
    try:
        once = _messages(template, variant, {})
    except RenderFailed as error:
        says = f"cannot be rendered with made-up values: {error}"
        yield Finding("sample", Severity.WARNING, place, says, "ask whether a value is defined before it is read")
        return
    if _said(template, variant, reordered(sample_values(template))) != once:
        says = "what it says depends on the order in which a client writes an object's keys"
        yield Finding(
            "order", Severity.WARNING, place, says, "go through it with |dictsort, or name its keys one by one"
        )
    measured = prefix(template, variant, counters)
    if measured is not None and measured.fixed_characters - measured.characters > EARLY_CHARACTERS:
        yield _early(template, variant, measured)


def _early(template: Template, variant: str, measured: Prefix) -> Finding:
    """The variable that ends the prefix: of those that end it first, the one that changes most often."""
    once = _messages(template, variant, {})
    ends: dict[str, int] = {}
    for name, value in _varied(template).items():
        said = _said(template, variant, {name: value})
        if said is not None:
            ends[name] = sum(map(len, _shared(once, said)))
    first = min(ends, key=lambda name: (ends[name], name)) if ends else _CLIENT
    often = volatility(template.inputs.get("properties", {}).get(first))
    who = first if first == _CLIENT else repr(first)
    tokens = "".join(f", {count:,} tokens on {tier}" for tier, count in measured.tokens.items())
    return Finding(
        "early-variable",
        Severity.WARNING,
        Place(variant, ("messages",)),
        f"{who} ({often}) ends what an engine can keep after {measured.characters:,} of "
        f"{measured.fixed_characters:,} fixed characters{tokens}",
        "move it behind the fixed text",
    )


def _varied(template: Template) -> dict[str, Any]:
    """Other values for the client's messages and all variables that are not static."""
    properties: Mapping[str, Any] = template.inputs.get("properties", {})
    return {
        _CLIENT: "other",
        **{
            name: sample(schema, other=True)
            for name, schema in properties.items()
            if volatility(schema) is not Volatility.STATIC
        },
    }


def _messages(template: Template, variant: str, others: Mapping[str, Any]) -> list[str]:
    """With *others* over the made-up values; `_CLIENT` among them is what the client says. Raises RenderFailed."""
    values = {**sample_values(template), **others}
    client = [{"role": "user", "content": values.pop(_CLIENT, "sample")}]
    return [str(message["content"]) for message in compiled(template).messages(variant, values, client)]


def _said(template: Template, variant: str, others: Mapping[str, Any]) -> list[str] | None:
    try:
        return _messages(template, variant, others)
    except RenderFailed:
        return None


def _shared(once: Sequence[str], again: Sequence[str]) -> list[str]:
    """What both begin with, message by message."""
    one, two = _END.join(once), _END.join(again)
    differ = next(
        (place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )
    return one[:differ].split(_END)


def _written(template: Template, variant: str, name: str) -> int:
    """How many characters a variable's made-up value takes: by how much the text grows where it is twice as long."""
    value = {_CLIENT: "sample", **sample_values(template)}[name]
    if not isinstance(value, str):
        return 0
    once, longer = _said(template, variant, {}), _said(template, variant, {name: value * 2})
    return 0 if once is None or longer is None else max(sum(map(len, longer)) - sum(map(len, once)), 0)
