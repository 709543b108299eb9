"""What the management API and the export say of the library, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from gateway.library.records import Move, Saved, Trial
from gateway.library.standing import Standing
from gateway.pages import unix
from prompts.library import Library, Version
from router.gate import Gate


def prompt_document(library: Library, prompt: str, standing: Standing) -> dict[str, Any]:
    """`tiers`: where each labelled version may be sent now. `canaries`: each label's last, and what it takes. `alarms`:
    what it has not shown, by label.
    """
    versions = library.versions[prompt]
    latest = versions[max(versions)]
    labels = library.labels.get(prompt, {})
    return {
        "object": "prompt",
        "id": prompt,
        "description": latest.template.description,
        "latest": latest.number,
        "labels": dict(sorted(labels.items())),
        "tiers": {label: sorted(standing.of(versions[at]) or ()) for label, at in sorted(labels.items())},
        "canaries": {
            label: {"version": trial.number, "stage": trial.canary.stage, "share": trial.canary.share}
            for label in sorted(labels)
            if (trial := standing.trials.get((prompt, label))) is not None
        },
        "alarms": {label: told for label in sorted(labels) if (told := alarms_of(standing, prompt, label))},
    }


def alarms_of(standing: Standing, prompt: str, label: str) -> list[str]:
    return [str(alarm) for alarm in standing.alarms if (alarm.prompt, alarm.label) == (prompt, label)]


def version_document(saved: Saved, labels: Mapping[str, int], tiers: frozenset[str] | None) -> dict[str, Any]:
    """With the whole template, in its canonical form."""
    version = saved.version
    return {
        **version_line(saved, labels, tiers),
        "template": orjson.loads(version.template.canonical),
    }


def version_line(saved: Saved, labels: Mapping[str, int], tiers: frozenset[str] | None) -> dict[str, Any]:
    version = saved.version
    return {
        "object": "prompt.version",
        "id": version.template.id,
        "version": version.number,
        "digest": version.template.digest,
        "labels": _labels_at(version, labels),
        "excluded": sorted(version.excluded),
        "tiers": sorted(tiers or ()),
        "parent": saved.parent,
        "origin": saved.origin,
        "author": saved.author,
        "message": saved.message,
        "created_at": unix(saved.created_at),
    }


def move_document(move: Move) -> dict[str, Any]:
    override = move.override
    return {
        "object": "prompt.label",
        "prompt": move.prompt,
        "label": move.label,
        "version": move.went_to,
        "from": move.came_from,
        "excluded": sorted(move.excluded),
        "by": move.by,
        "message": move.message,
        "at": unix(move.at),
        "override": None
        if override is None
        else {"role": override.role, "reason": override.reason, "until": unix(override.until)},
        "failing": list(move.failing),
    }


def canary_document(trial: Trial) -> dict[str, Any]:
    """`place`: the step that it is on, from 0; `passed`, `total` and so on are of that step."""
    canary = trial.canary
    return {
        "object": "prompt.canary",
        "prompt": trial.prompt,
        "label": trial.label,
        "version": trial.number,
        "tier": trial.tier,
        "excluded": sorted(trial.excluded),
        "stage": canary.stage,
        "share": canary.share,
        "place": canary.place,
        "steps": [{"share": step.share, "outcomes": step.outcomes} for step in canary.steps],
        **asdict(canary.tally),
        "doubts": {source.value: asdict(tally) for source, tally in canary.doubts.items()},
        "why": canary.why,
        "by": trial.by,
        "began_at": unix(trial.began_at),
    }


def gate_document(gate: Gate) -> dict[str, Any]:
    return {"object": "prompt.gate", "opens": gate.opens, "rows": [asdict(row) for row in gate.rows]}


def _labels_at(version: Version, labels: Mapping[str, int]) -> list[str]:
    return sorted(label for label, number in labels.items() if number == version.number)
