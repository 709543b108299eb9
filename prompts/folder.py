"""A folder of prompts, read whole or not at all: every file in it is right, or all that is wrong is told.

    library.yaml                  what holds for all: tiers, bars, labels
    _partials/voice.md            a text that messages include, {% include "voice" %}
    support/triage/
      triage.prompt.yaml          the prompt support/triage
      triage.small.prompt.yaml    what the tier `small` is told instead
      tests.yaml, cases.jsonl     its suite; found here, read elsewhere

Nothing outside the folder is read, and of nothing more than a limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from prompts.check import Finding, Place, Severity, Source, errors, partial_place, text_errors
from prompts.partials import PARTIAL, included
from prompts.plainyaml import Document
from prompts.promptfile import Policy, SaidPrompt, SaidVariant, parts
from prompts.reading import Fault, LoadRefused, Reading
from prompts.template import BASE, ID, TIER, Template, Text, Variant

PARTIAL_BYTES = 64 * 1024
LIBRARY, PARTIALS, TESTS, CASES = "library.yaml", "_partials", "tests.yaml", "cases.jsonl"
ENDING = ".prompt.yaml"
PARTIAL_ENDINGS = (".md", ".txt")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template, and the files that say it. `tests` and `cases`: its suite, where there is one."""

    template: Template
    documents: Mapping[str, Document]  # by `base` and tier
    partials: Mapping[str, Path]  # of all that the library has
    tests: Path | None
    cases: Path | None

    def position(self, place: Place) -> tuple[Path, int | None, int | None]:
        """The file, line and column of what a finding is about."""
        document = self.documents.get(place.source)
        if document is None:
            return self.partials[place.source.removeprefix(f"{PARTIALS}/")], place.line, place.column
        if place.line is None:
            return document.file.path, *document.position(place.loc)
        return document.file.path, *document.position_within(place.loc, place.line, place.column or 1)


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder says, as a whole. Prompts by their id."""

    path: Path
    policy: Policy
    prompts: Mapping[str, Prompt]


@dataclass(frozen=True, slots=True)
class _Partials:
    """By name: the texts, without the line ending that an editor puts at the end of every file; and their files."""

    texts: dict[str, str]
    paths: dict[str, Path]


def load(root: Path) -> Folder:
    """Raises LoadRefused for whatever is wrong in the folder *root*, and OSError where it cannot be listed."""
    reading = Reading(root)
    files = list(reading.files())
    policy = _policy(reading, files)
    partials = _partials(reading, files)
    prompts = list(_prompts(reading, files, policy, partials))
    if reading.faults:
        raise LoadRefused(reading.faults)
    return Folder(root, policy, {prompt.template.id: prompt for prompt in prompts})


def _policy(reading: Reading, files: Sequence[PurePosixPath]) -> Policy:
    path = PurePosixPath(LIBRARY)
    document = reading.document(path) if path in files else None
    said = reading.said(path, document, Policy) if document else None
    return said or Policy()


def _partials(reading: Reading, files: Sequence[PurePosixPath]) -> _Partials:
    found = _Partials({}, {})
    for path in files:
        if path.parts[0] != PARTIALS:
            continue
        name = str(path.relative_to(PARTIALS).with_suffix(""))
        if path.suffix not in PARTIAL_ENDINGS or not PARTIAL.fullmatch(name):
            reading.fault(path, "is no partial: a file NAME.md or NAME.txt, its name of a-z, 0-9, - and _")
        elif name in found.texts:
            reading.fault(path, f"there are two partials {name!r}; keep one")
        elif (text := reading.text(path, PARTIAL_BYTES)) is not None:
            found.texts[name], found.paths[name] = text.removesuffix("\n"), reading.root / path
            for finding in text_errors(Source(partial_place(name), found.texts[name], frozenset())):
                reading.fault(path, str(finding), finding.place.line, finding.place.column)
    return found


def _prompts(reading: Reading, files: Sequence[PurePosixPath], policy: Policy, partials: _Partials) -> Iterator[Prompt]:
    folders: dict[PurePosixPath, list[PurePosixPath]] = {}
    for path in files:
        if path.parts[0] != PARTIALS and path != PurePosixPath(LIBRARY) and _belongs(reading, path):
            folders.setdefault(path.parent, []).append(path)
    for folder, inside in folders.items():
        prompt = _prompt(reading, folder, inside, policy, partials)
        if prompt is not None:
            yield prompt


def _belongs(reading: Reading, path: PurePosixPath) -> bool:
    """Whether it is a file of a prompt; one that is nearly one is told, and any other is nobody's business."""
    if path.name.endswith(ENDING) or path.name in (TESTS, CASES):
        return True
    if path.suffix in (".yaml", ".yml", ".jsonl"):
        reading.fault(path, f"is no file of a prompt: NAME{ENDING}, NAME.TIER{ENDING}, {TESTS} or {CASES}")
    return False


def _prompt(
    reading: Reading, folder: PurePosixPath, files: Sequence[PurePosixPath], policy: Policy, partials: _Partials
) -> Prompt | None:
    """The prompt of one folder. None, and a fault, for what is none."""
    before, prompt_id = len(reading.faults), str(folder)
    base = folder / f"{folder.name}{ENDING}"
    if base not in files:
        name = folder.name or "NAME"
        reading.fault(files[0], f"there is no {name}{ENDING} beside it; a prompt is a folder with its name")
        return None
    if not ID.fullmatch(prompt_id):
        reading.fault(base, f"{prompt_id!r} is no name of a prompt; use a-z, 0-9, - and _ in names of folders")
        return None
    document = reading.document(base)
    said = reading.said(base, document, SaidPrompt, prompt_id) if document else None
    documents = {} if document is None else {BASE: document}
    variants = dict(_variants(reading, folder, files, policy, documents))
    if said is None or len(reading.faults) > before:
        return None
    try:
        template = template_said(prompt_id, said, variants, partials.texts)
    except ValueError as error:
        reading.fault(base, str(error))
        return None
    found = {path.name: reading.root / path for path in files}
    prompt = Prompt(template, documents, partials.paths, found.get(TESTS), found.get(CASES))
    findings = [*errors(template, partials.texts), *tier_errors(template, policy)]
    reading.faults += [fault_of(prompt, finding) for finding in findings]
    return prompt


def _variants(
    reading: Reading,
    folder: PurePosixPath,
    files: Sequence[PurePosixPath],
    policy: Policy,
    documents: dict[str, Document],
) -> Iterator[tuple[str, Variant]]:
    """By tier; each one's document goes into *documents*."""
    for path in files:
        said_name = path.name.removesuffix(ENDING)
        if not path.name.endswith(ENDING) or said_name == folder.name:
            continue
        tier = said_name.removeprefix(f"{folder.name}.") if said_name.startswith(f"{folder.name}.") else ""
        if not _is_tier(reading, path, tier, policy):
            continue
        document = reading.document(path)
        said = reading.said(path, document, SaidVariant) if document else None
        if document is not None and said is not None:
            documents[tier] = document
            yield tier, said.variant()


def _is_tier(reading: Reading, path: PurePosixPath, tier: str, policy: Policy) -> bool:
    if not TIER.fullmatch(tier) or tier == BASE or (policy.tiers and tier not in policy.tiers):
        known = f"tiers are {', '.join(policy.tiers)}" if policy.tiers else "a name of a-z, 0-9, - and _"
        reading.fault(path, f"{tier!r} is no tier: {known}; a variant is called {path.parent.name}.TIER{ENDING}")
        return False
    return True


def tier_errors(template: Template, policy: Policy) -> Iterator[Finding]:
    """Tiers that the library does not have."""
    for place, tier in enumerate(template.routing.tiers or ()):
        if policy.tiers and tier not in policy.tiers:
            says = f"{tier!r} is no tier"
            where = Place(BASE, ("routing", "tiers", place))
            yield Finding("tiers", Severity.ERROR, where, says, f"{LIBRARY} has {', '.join(policy.tiers)}")


def fault_of(prompt: Prompt, finding: Finding) -> Fault:
    """A finding as it stands in the prompt's files."""
    path, line, column = prompt.position(finding.place)
    where = ".".join(map(str, finding.place.loc))
    return Fault(path, line, column, f"{where}: {finding}" if where else str(finding))


def template_said(
    prompt_id: str, said: SaidPrompt, variants: Mapping[str, Variant], partials: Mapping[str, str]
) -> Template:
    """What a prompt's file, its tiers' files and the partials that they include say. Raises ValueError for no JSON."""
    messages = parts(said.messages)
    everything = [*messages, *(part for variant in variants.values() for part in variant.messages or ())]
    return Template(
        id=prompt_id,
        messages=messages,
        inputs=said.inputs,
        description=said.description,
        model=said.model,
        parameters=said.modelParameters,
        response_format=said.response_format(),
        routing=said.routing.routing(),
        locked=frozenset(said.locked),
        client_system=said.client_system,
        variants=variants,
        fitted=tuple(said.fitted),
        partials=included([part.content for part in everything if isinstance(part, Text)], partials),
    )
