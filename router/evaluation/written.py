"""Results as JSON. What is not known is null."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from router.evaluation.evaluate import Results

DIGITS = 5  # after the decimal point: far finer than any interval here


def document(results: Results) -> dict[str, Any]:
    """`rows` and `targets`, then `calibration`, `aiq` and `notes`. A row of a set with an AIQ has it, too."""
    aiq = {(one.set, one.method): one for one in results.aiq}
    rows = []
    for row in results.rows:
        made = asdict(row)
        if row.stage == "before" and (row.set, row.method) in aiq:
            of_set = aiq[row.set, row.method]
            made |= {"aiq": of_set.aiq, "aiq_ci95": of_set.ci95}
        rows.append(made)
    written = {
        "rows": rows,
        "targets": [asdict(one) for one in results.targets],
        "calibration": [asdict(one) for one in results.calibration],
        "aiq": [asdict(one) for one in results.aiq],
        "notes": list(results.notes),
    }
    plain: dict[str, Any] = _plain(written)
    return plain


def write(path: Path, results: Results) -> None:
    """Raises OSError."""
    path.write_text(json.dumps(document(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return value
