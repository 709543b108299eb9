"""Values that a schema would pass, made up, in twos: what two requests may share is seen by rendering both. Pure."""

from collections.abc import Mapping
from typing import Any

from prompts.template import Template
from prompts.variables import Volatility, volatility

MOST_LEVELS = 4


def sample(schema: Any, other: bool = False, level: int = 0) -> Any:
    """One value that *schema*, as people write them, describes; *other*: another one, that differs as early as it can.

    A keyword that it does not know (pattern, oneOf, $ref) is not heeded: the value is for rendering, not for asking.
    """
    said: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    if "const" in said:
        return said["const"]
    if choices := said.get("enum"):
        return choices[-1] if other else choices[0]
    kind = said.get("type", "string")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "integer" | "number":
            return said.get("minimum", 1) + (2 if other else 1)
        case "boolean":
            return not other
        case "null":
            return None
        case "array":
            item = said.get("items", {})
            return [sample(item, other, level + 1)] if level < MOST_LEVELS else []
        case "object":
            properties = said.get("properties") or {"a": {}, "b": {}}
            return {n: sample(s, other, level + 1) for n, s in properties.items()} if level < MOST_LEVELS else {}
        case _:
            return "other" if other else "sample"


def sample_values(template: Template) -> dict[str, Any]:
    """A value for every variable: its default where it is static, as that is what requests share."""
    properties: Mapping[str, Any] = template.inputs.get("properties", {})
    return {
        name: schema["default"]
        if isinstance(schema, Mapping) and "default" in schema and volatility(schema) is Volatility.STATIC
        else sample(schema)
        for name, schema in properties.items()
    }


def reordered(value: Any) -> Any:
    """The same JSON, with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value
