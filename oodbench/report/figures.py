"""Static figures for papers: AUROC with its intervals as dots, and ROC curves, each as SVG and PNG."""

from __future__ import annotations

import re
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oodbench.files import atomic_write
from oodbench.metrics import RECALL_PERCENT
from oodbench.report.comparison import BEST, TIED, Block, Leaderboard, Row
from oodbench.report.layout import block_title
from oodbench.report.plots import points_at_95
from oodbench.statistics import delong_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's palette, which colour-blind readers can tell apart."""

STYLES = ("-", "--", "-.", ":", (0, (5, 1)))
"""Line styles; their count shares no factor with that of the colours, so that pairs repeat late."""

PER_LINE = 4
"""Panels side by side."""

RESOLUTION = 150


def save_figures(leaderboard: Leaderboard, folder: Path) -> list[Path]:
    """Write `auroc-ID-MODEL` and `roc-ID-MODEL` of each block, as .svg and .png; returns the paths."""
    paths = []
    for block in leaderboard.blocks:
        name = re.sub(r"[^\w.-]+", "-", f"{block.id}-{block.model}")
        for kind, draw in (("auroc", dot_plot), ("roc", roc_grid)):
            figure = draw(block)
            for form in ("svg", "png"):
                paths.append(folder / f"{kind}-{name}.{form}")
                _save(figure, paths[-1])
    return paths


def dot_plot(block: Block) -> Figure:
    """AUROC of every detector, one panel a set; lines are DeLong's 95 % intervals, filled dots are best or tied."""
    figure, panels = _panels(len(block.sets), 2.6, 0.28 * len(block.detectors) + 0.9)
    for ood, axes in zip(block.sets, panels, strict=True):
        for place, detector in enumerate(block.detectors):
            row = block.rows.get((detector, ood))
            if row is not None:
                _dot(axes, row, place)
        axes.set_yticks(range(len(block.detectors)), block.detectors)
        axes.set_ylim(len(block.detectors) - 0.5, -0.5)
        axes.set_title(ood, fontsize=10)
        axes.axvline(0.5, color="0.6", linestyle=":", linewidth=1)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    runs = "; strokes: single runs" if len(block.first.repeats) > 1 else ""
    title = f"{block_title(block)}: AUROC, 95 % intervals; filled: best, or tied with the best{runs}"
    figure.suptitle(title, fontsize=10)
    return figure


def roc_grid(block: Block) -> Figure:
    """ROC curves of the detectors that are no controls, one panel a set; the first run where there are several."""
    figure, panels = _panels(len(block.sets), 2.6, 2.6)
    contest = [d for d in block.detectors if not block.is_control(d)] or list(block.detectors)
    for ood, axes in zip(block.sets, panels, strict=True):
        for detector, colour, style in zip(contest, cycle(COLOURS), cycle(STYLES), strict=False):
            row = block.rows.get((detector, ood))
            if row is None:
                continue
            counts = row.first.counts
            x, y = counts.ood_counts / counts.n_ood, counts.id_counts / counts.n_id
            axes.plot(x, y, color=colour, linestyle=style, linewidth=1.4, label=detector)
            for point, marker in zip(points_at_95(counts), "os", strict=True):
                axes.plot(x[point], y[point], marker, color=colour, markersize=4, clip_on=False)
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_title(ood, fontsize=10)
    figure.supxlabel("share of OOD accepted", fontsize=10)
    figure.supylabel("share of ID kept", fontsize=10)
    handles = {h.get_label(): h for axes in panels for h in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside right center", frameon=False, fontsize=8)
    figure.suptitle(
        f"{block_title(block)}: dots where {RECALL_PERCENT} % of ID is kept, squares where {RECALL_PERCENT} % of OOD "
        f"is caught",
        fontsize=10,
    )
    return figure


def _dot(axes: Axes, row: Row, place: int) -> None:
    estimate = row.metrics["auroc"]
    ends = np.mean([delong_interval(one.id_scores, one.ood_scores) for one in row.trainings], axis=0)
    colour = "0.5" if row.first.control else COLOURS[0]
    filled = row.standing in (BEST, TIED)
    axes.plot(ends, [place, place], color=colour, linewidth=1.5)
    axes.plot(estimate.value, place, "o", color=colour, markerfacecolor=colour if filled else "white", markersize=5)
    for one in row.trainings if len(row.trainings) > 1 else ():
        axes.plot(one.metrics["auroc"], place, "|", color=colour, markersize=8)


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    # Only now: importing matplotlib takes long. Its Figure, not pyplot, since pyplot keeps global state.
    from matplotlib.figure import Figure

    columns = min(count, PER_LINE)
    lines = -(-count // columns)
    figure = Figure(figsize=(width * columns + 1, height * lines + 0.6), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    panels: list[Axes] = list(grid.flat)
    for empty in panels[count:]:
        empty.set_visible(False)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    # The lowest of each column, also where the last line of panels is not full.
    for axes in panels[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def _save(figure: Figure, path: Path) -> None:
    import matplotlib

    # Text stays text, and the same runs give the same bytes.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "oodbench"}
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with atomic_write(path) as temporary, matplotlib.rc_context(settings):
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=RESOLUTION, metadata=metadata)
