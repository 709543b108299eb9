"""Langfuse's prompts, as its API and its exports have them: `{"name", "type": "text" | "chat", "prompt", "config",
"labels"}`, one, a list, or `{"data": [...]}`. Of the versions of one name the one that is `production` is taken, or
else the latest.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prompts.check import PARAMETERS
from prompts.importing.made import Imported, ImportRefused, Making, content_text, json_of, mapping, rest
from prompts.importing.text import template_text

KNOWN = frozenset(
    [
        "id",
        "name",
        "type",
        "prompt",
        "config",
        "labels",
        "tags",
        "version",
        "projectId",
        "createdAt",
        "updatedAt",
        "createdBy",
        "commitMessage",
        "isActive",
        "resolutionGraph",
    ]
)
INCLUDED = re.compile(r"@@@langfusePrompt:.*?@@@")


def read(text: str, name: str) -> Sequence[Imported]:
    said = json_of(text)
    if isinstance(said, Mapping) and isinstance(said.get("data"), list):
        said = said["data"]
    rows = [mapping(one, "a prompt") for one in (said if isinstance(said, list) else [said])]
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(str(row.get("name") or name), []).append(row)
    if not by_name:
        raise ImportRefused("has no prompt in it")
    return [_one(each, versions) for each, versions in by_name.items()]


def _one(name: str, versions: Sequence[Mapping[str, Any]]) -> Imported:
    said = max(versions, key=lambda row: ("production" in _list(row.get("labels")), _number(row.get("version"))))
    made = Making(name)
    if len(versions) > 1:
        left = sorted(str(row.get("version")) for row in versions if row is not said)
        made.drop(f"versions {', '.join(left)}", f"one version is a file; this is {said.get('version')}")
    made.description = str(said.get("commitMessage") or "")
    prompt = said.get("prompt")
    if isinstance(prompt, str):
        made.say("user", _text(made, prompt))
    elif isinstance(prompt, list):
        for place, message in enumerate(prompt):
            _message(made, message, f"message {place}")
    else:
        raise ImportRefused(f"{name}: prompt is neither a text nor a list of messages")
    for key, value in (said.get("config") or {}).items() if isinstance(said.get("config"), Mapping) else ():
        if key in PARAMETERS:
            made.parameter(key, value)
        else:
            made.drop(f"config.{key}", "is no parameter of a template; models are chosen by the router")
    for key in ("labels", "tags"):
        if values := _list(said.get(key)):
            made.drop(f"{key} {', '.join(map(str, values))}", "labels are moved with pointsman prompts promote")
    rest(made, said, KNOWN)
    return made.done()


def _number(version: Any) -> int:
    return version if isinstance(version, int) else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _message(made: Making, message: Any, where: str) -> None:
    if not isinstance(message, Mapping):
        made.drop(where, "is no message; it is left out")
    elif message.get("type") == "placeholder":
        if ("placeholder", "") in made.messages:
            made.drop(f"placeholder {message.get('name')!r}", "there is one place for a client's messages; left out")
        else:
            made.messages.append(("placeholder", ""))
    else:
        made.say(message.get("role"), _text(made, content_text(made, message.get("content"), where)))


def _text(made: Making, text: str) -> str:
    for found in INCLUDED.finditer(text):
        made.names.odd(found[0], "includes another prompt there and stands as text here; make that a partial")
    return template_text(text, made.names)
