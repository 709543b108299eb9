"""The plot of a search: every build as a point, cost against perplexity, those on the front joined. SVG, by itself."""

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, MARGIN = 760, 420, 70, 50, 20
TICKS = 5
MEGABYTE = 1_000_000


def plot(trials: Sequence[Mapping[str, Any]], cost: str, says: str) -> str:
    """*cost*: the key of what builds cost, in bytes, and *says* what it is. Perplexity on a logarithmic axis: the
    cheapest builds are far off.
    """
    sizes = [row[cost] / MEGABYTE for row in trials]
    values = [log(row["perplexity"]) for row in trials]
    (least, most), (best, worst) = _range(sizes), _range(values)

    def x(size: float) -> float:
        return LEFT + (size - least) / (most - least) * (WIDTH - LEFT - MARGIN)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - best) / (worst - best) * (HEIGHT - BOTTOM - MARGIN)

    points = [(x(size), y(value), row) for size, value, row in zip(sizes, values, trials, strict=True)]
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{says} against perplexity" font-size="12">']
    parts += [_dot(px, py, row, cost) for px, py, row in points]
    front = sorted((px, py) for px, py, row in points if row["on_front"])
    parts.append(f'<polyline fill="none" stroke="#06c" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in front)}"/>')
    for tick in range(TICKS):
        size, value = least + (most - least) * tick / (TICKS - 1), best + (worst - best) * tick / (TICKS - 1)
        parts.append(f'<text x="{x(size):.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{size:.0f}</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.0f}" text-anchor="end">{exp(value):.1f}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{says}</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})">perplexity</text></svg>')
    return "\n".join(parts)


def _dot(px: float, py: float, row: Mapping[str, Any], cost: str) -> str:
    colour = "#06c" if row["on_front"] else "#aaa"
    says = f"trial {row['number']}: {row[cost] / MEGABYTE:.1f} MB, perplexity {row['perplexity']:.2f}"
    return f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"><title>{says}</title></circle>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """With some room, and never empty."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room
