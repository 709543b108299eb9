"""Results as a picture: for each set, quality over the share of calls to the large model. Knows matplotlib alone."""

from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO, StringIO
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from router.evaluation.evaluate import Results
from router.evaluation.metrics import Curve
from router.evaluation.samples import Stage
from router.evaluation.tables import TableError

PANELS_PER_ROW = 3
PANEL_INCHES = (4.6, 3.6)
POINTS = 200  # of a curve: more cannot be seen, and would make the page heavy
DRAWN: Mapping[tuple[Stage, str], tuple[str, str]] = {  # colour (Okabe and Ito's, for every eye), and line
    (Stage.BEFORE, "pointsman"): ("#0072B2", "-"),
    (Stage.AFTER, "pointsman"): ("#D55E00", "-"),
    (Stage.BEFORE, "template"): ("#56B4E9", "--"),
    (Stage.BEFORE, "knn"): ("#009E73", ":"),
    (Stage.BEFORE, "routellm-sw"): ("#CC79A7", ":"),
    (Stage.AFTER, "agreement"): ("#E69F00", "--"),
    (Stage.BEFORE, "random"): ("#999999", "-"),
    (Stage.BEFORE, "oracle"): ("#000000", "-."),
}


def draw(path: Path, results: Results) -> None:
    """PNG or a page of HTML without outside parts, by the ending of *path*. Raises TableError, OSError."""
    ending = drawable(path)
    figure = _figure(results)
    if ending == ".png":
        content = BytesIO()
        figure.savefig(content, format="png", dpi=120)
        path.write_bytes(content.getvalue())
    else:
        path.write_text(_page(figure, results), encoding="utf-8")


def drawable(path: Path) -> str:
    """The ending of *path*. Raises TableError where nothing can be drawn by it."""
    if path.suffix.lower() not in (".png", ".html"):
        raise TableError(f"the plot {path} must end in .png or .html")
    return path.suffix.lower()


def _figure(results: Results) -> Figure:
    sets = list(dict.fromkeys(name for name, _, _ in results.curves))
    columns = min(PANELS_PER_ROW, max(1, len(sets)))
    rows = max(1, ceil(len(sets) / columns))
    width, height = PANEL_INCHES
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel, name in zip(axes, sets, strict=False):
        _panel(panel, name, results)
    for panel in axes[len(sets) :]:
        panel.set_axis_off()
    return figure


def _panel(panel: Axes, name: str, results: Results) -> None:
    for (stage, method), (colour, line) in DRAWN.items():
        curve = results.curves.get((name, stage, method))
        if curve is not None:
            share, quality = _thinned(curve)
            label = method if method in ("random", "oracle") else f"{method}, {stage}"
            panel.plot(100 * share, 100 * quality, line, color=colour, label=label, linewidth=1.3)
    panel.set_title(name, fontsize=10)
    panel.set_xlabel("calls to the large model, %", fontsize=8)
    panel.set_ylabel("quality, %", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=6, loc="lower right")


def _thinned(curve: Curve) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    share = np.linspace(0, 1, POINTS + 1)
    return share, np.interp(share, curve.share, curve.value)


def _page(figure: Figure, results: Results) -> str:
    drawing = StringIO()
    figure.savefig(drawing, format="svg")
    picture = drawing.getvalue()
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>pointsman router evaluate</title>'
        "<style>body{font:14px system-ui,sans-serif;margin:2em}svg{max-width:100%;height:auto}"
        "td,th{padding:0 .8em 0 0;text-align:left}</style>\n"
        "<h1>Quality over the share of calls to the large model</h1>\n"
        f"{picture[picture.index('<svg') :]}\n"
        "<table><tr><th>set<th>stage<th>method<th>APGR<th>95 %<th>CPT50<th>CPT80<th>CPT95\n"
        f"{_lines(results)}</table></html>\n"
    )


def _lines(results: Results) -> str:
    lines = []
    for row in results.rows:
        if np.isfinite(row.apgr):
            interval = f"{row.ci95[0]:.3f} to {row.ci95[1]:.3f}"
            cpts = (f"{cpt:.0f}" for cpt in (row.cpt50, row.cpt80, row.cpt95))
            cells = (escape(row.set), row.stage, escape(row.method), f"{row.apgr:.3f}", interval, *cpts)
            lines.append("<tr>" + "".join(f"<td>{cell}" for cell in cells) + "\n")
    return "".join(lines)
