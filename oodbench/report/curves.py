"""Figures of scores: ROC curves over all runs, and histograms with the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oodbench.metrics import RECALL_PERCENT
from oodbench.report.comparison import Block, Row
from oodbench.report.names import Names
from oodbench.report.plots import histogram, points_at_95
from oodbench.report.style import DOUBLE, SINGLE, Style, drawn, label_below, legend_below, legend_height, panels, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = np.linspace(0, 1, 501)
"""Shares of OOD accepted at which curves of several runs are averaged."""

Curve = NDArray[np.float64]


@drawn
def roc_grid(block: Block, detectors: list[str], names: Names) -> Figure:
    """ROC curves, one panel a set; over several runs their mean, and a band of one standard deviation.

    The markers stand where 95 % of ID is kept, on the mean.
    """
    labels = [names.detector(one) for one in detectors]
    width = SINGLE if len(block.sets) <= 2 else DOUBLE
    figure, axes_of = panels(len(block.sets), 1.75, 0.25 + legend_height(labels, width))
    for ood, axes in zip(block.sets, axes_of, strict=True):
        axes.plot([0, 100], [0, 100], color="0.8", linewidth=0.6, zorder=0)
        axes.axhline(RECALL_PERCENT, color="0.8", linewidth=0.6, zorder=0)
        for detector, label, style in zip(detectors, labels, styles(len(detectors)), strict=True):
            if (detector, ood) in block.rows:
                _roc(axes, block.rows[detector, ood], label, style)
        axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))
        axes.set_title(names.set(ood))
    label_below(axes_of, "OOD accepted (%)")
    figure.supylabel("ID kept (%)", fontsize=8)
    handles = {h.get_label(): h for axes in axes_of for h in axes.get_legend_handles_labels()[0]}
    legend_below(figure, handles.values())
    return figure


def _roc(axes: Axes, row: Row, label: str, style: Style) -> None:
    if len(row.trainings) == 1:
        counts = row.first.counts
        x, y = counts.ood_counts / counts.n_ood, counts.id_counts / counts.n_id
    else:
        x = GRID
        curves = np.array([roc_at(row_of.counts.ood_counts, row_of.counts.id_counts) for row_of in row.trainings])
        y, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1)
        band = np.clip([y - spread, y + spread], 0, 1)
        axes.fill_between(100 * x, *(100 * band), color=style.colour, alpha=0.2, linewidth=0)
    axes.plot(100 * x, 100 * y, color=style.colour, linestyle=style.dash, linewidth=1)
    fpr = row.metrics["fpr_at_95_id_recall"].value
    point = (100 * fpr, RECALL_PERCENT)
    axes.plot(*point, style.marker, color=style.colour, markersize=4, clip_on=False, zorder=3)
    # What stands in the legend: the line and its marker.
    axes.plot([], [], color=style.colour, linestyle=style.dash, marker=style.marker, markersize=4, label=label, lw=1)


def roc_at(ood_counts: NDArray[np.int64], id_counts: NDArray[np.int64]) -> Curve:
    """ID kept at each share of OOD of GRID: the highest point of the curve there, straight lines between points."""
    x, y = ood_counts / ood_counts[-1], id_counts / id_counts[-1]
    last = np.append(x[1:] != x[:-1], True)
    return np.interp(GRID, x[last], y[last])


@drawn
def score_histograms(block: Block, detector: str, names: Names) -> Figure:
    """A detector's scores, one panel a set, with the threshold that keeps 95 % of ID; of the first run."""
    sets = [ood for ood in block.sets if (detector, ood) in block.rows]
    figure, axes_of = panels(len(sets), 1.2, 0.5, share_x=False)
    for ood, axes in zip(sets, axes_of, strict=True):
        one = block.rows[detector, ood].first
        edges, id_shares, ood_shares = histogram(one.id_scores, one.ood_scores)
        axes.stairs(100 * id_shares, edges, fill=True, color="#9BC4E2", label="ID")
        axes.stairs(100 * ood_shares, edges, color="#A03000", linewidth=1, label="OOD")
        threshold = one.counts.thresholds[points_at_95(one.counts)[0]]
        axes.axvline(np.clip(threshold, edges[0], edges[-1]), color="black", linestyle="--", linewidth=0.8,
                     label=f"threshold ({RECALL_PERCENT} % of ID kept)")  # fmt: skip
        axes.locator_params(axis="x", nbins=3)
        axes.set_title(names.set(ood))
        axes.margins(x=0)
    label_below(axes_of, f"{names.detector(detector)} score")
    figure.supylabel("images (%)", fontsize=8)
    legend_below(figure, axes_of[0].get_legend_handles_labels()[0])
    return figure
