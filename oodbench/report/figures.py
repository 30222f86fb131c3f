"""Figures for papers, as PDF, SVG and PNG in a column's width or two: dots, means, ranks, ROC curves, histograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oodbench.data.catalogue import ADVERSARIAL
from oodbench.errors import unknown_name
from oodbench.report.comparison import ALL_SETS, Block, Estimate, Leaderboard, Row
from oodbench.report.curves import roc_grid, score_histograms
from oodbench.report.names import Names
from oodbench.report.paper import PaperTable, shown_detectors
from oodbench.report.ranks import RankComparison, rank_comparison
from oodbench.report.sheets import save_sheets
from oodbench.report.style import (
    FORMS,
    GREY,
    SINGLE,
    drawn,
    label_below,
    legend_below,
    new_figure,
    panels,
    save,
    styles,
)
from oodbench.statistics import delong_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.165
"""Inches of a line with a detector's name."""


def save_figures(
    leaderboard: Leaderboard, folder: Path, paper: PaperTable | None = None, forms: Sequence[str] = ()
) -> list[Path]:
    """Write, of each block, `auroc`, `means`, `roc`, `ranks` and, a detector each, `scores`; returns the paths.

    They are called `KIND-ID-MODEL`. Some blocks have less: ranks need three detectors on two sets, means a
    group of several sets. And the sheets of inverted images, as the runs call them (see `sheets.save_sheets`).

    Args:
        paper: whose names and order of detectors are taken.
        forms: of FORMS; all by default.

    Raises:
        OodbenchError: there is no such form, or a detector of the order was not run.
    """
    paper = paper or PaperTable()
    for form in forms:
        if form not in FORMS:
            raise unknown_name("form of figures", form, FORMS)
    paths = []
    for block in leaderboard.blocks:
        for kind, figure in _figures(block, shown_detectors(block, paper.order), paper.names):
            paths += save(figure, folder, f"{kind}-{block.id}-{block.model}", forms or FORMS)
    sheets = {file: png for run in leaderboard.runs for file, png in run.sheets.items()}
    return paths + save_sheets(sheets, folder, forms or FORMS)


def _figures(block: Block, detectors: list[str], names: Names) -> Iterator[tuple[str, Figure]]:
    """(kind, figure) of all that the block has enough for."""
    yield "auroc", dot_plot(block, detectors, names)
    if mean_groups(block):
        yield "means", mean_plot(block, detectors, names)
    found = compared(block, detectors)
    if found:
        yield "ranks", rank_plot(*found, names)
    yield "roc", roc_grid(block, detectors, names)
    for detector in detectors:
        yield f"scores-{detector}", score_histograms(block, detector, names)


@drawn
def dot_plot(block: Block, detectors: list[str], names: Names) -> Figure:
    """AUROC of every detector, one panel a set; lines are DeLong's 95 % intervals, filled dots are best or tied.

    Strokes are single runs, where there are several.
    """
    figure, axes_of = panels(len(block.sets), LINE * len(detectors) + 0.3, 0.25)
    for ood, axes in zip(block.sets, axes_of, strict=True):
        for place, detector in enumerate(detectors):
            row = block.rows.get((detector, ood))
            if row is not None:
                _dot(axes, row, place)
        _detectors_down(axes, detectors, names)
        axes.set_title(names.set(ood))
        axes.axvline(50, color="0.6", linestyle=":", linewidth=0.8)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.locator_params(axis="x", nbins=4)
    label_below(axes_of, "AUROC (%)")
    return figure


def _dot(axes: Axes, row: Row, place: int) -> None:
    ends = np.mean([delong_interval(one.id_scores, one.ood_scores) for one in row.trainings], axis=0)
    colour = GREY if row.first.control else styles(2)[1].colour
    inside = colour if row.standing else "white"
    axes.plot(100 * ends, [place, place], color=colour, linewidth=1.2)
    axes.plot(100 * row.metrics["auroc"].value, place, "o", color=colour, markerfacecolor=inside, markersize=4)
    for one in row.trainings if len(row.trainings) > 1 else ():
        axes.plot(100 * one.metrics["auroc"], place, "|", color=colour, markersize=6)


def _detectors_down(axes: Axes, detectors: Sequence[str], names: Names) -> None:
    axes.set_yticks(range(len(detectors)), [names.detector(one) for one in detectors])
    axes.set_ylim(len(detectors) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def mean_groups(block: Block) -> list[str]:
    """The groups over whose sets there is a mean, or all sets where there is no group of several."""
    sizes = {mean.group: len(mean.rows) for mean in block.means.values()}
    groups = [group for group, size in sizes.items() if size > 1 and group != ALL_SETS]
    return groups or [group for group, size in sizes.items() if size > 1]


@drawn
def mean_plot(block: Block, detectors: list[str], names: Names) -> Figure:
    """The mean AUROC over the sets of each group, the detectors from best to worst; lines are ± one standard deviation
    over runs."""
    groups = mean_groups(block)
    there = [one for one in detectors if all((one, group) in block.means for group in groups)] or list(detectors)

    def mean(detector: str, group: str) -> Estimate | None:
        found = block.means.get((detector, group))
        return found.metrics["auroc"] if found else None

    def height(detector: str) -> float:
        values = [one.value for group in groups if (one := mean(detector, group))]
        return -float(np.mean(values)) if values else 0.0

    ordered = sorted(there, key=height)
    figure = new_figure(SINGLE, LINE * len(ordered) + 0.75)
    axes = figure.subplots()
    for group, style in zip(groups, styles(len(groups)), strict=True):
        places = [place for place, one in enumerate(ordered) if mean(one, group)]
        found = [estimate for one in ordered if (estimate := mean(one, group))]
        axes.errorbar(
            [100 * one.value for one in found], places, xerr=[100 * (one.spread or 0) for one in found],
            fmt=style.marker, color=style.colour, markersize=4.5, linewidth=1, label=names.group(group),
        )  # fmt: skip
    for place, one in enumerate(ordered):
        values = [100 * estimate.value for group in groups if (estimate := mean(one, group))]
        axes.plot([min(values, default=0), max(values, default=0)], [place, place], color="0.8", zorder=0)
    _detectors_down(axes, ordered, names)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_xlabel("mean AUROC (%)")
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def compared(block: Block, detectors: Sequence[str]) -> tuple[list[str], RankComparison, int] | None:
    """Detectors that have all sets, their ranks by AUROC over those sets, and how many sets; None where too few."""
    sets = [
        ood
        for ood in block.sets
        if next(r for r in block.rows.values() if r.first.ood == ood).first.group != ADVERSARIAL
    ]
    there = [one for one in detectors if all((one, ood) in block.rows for ood in sets)]
    if len(there) < 3 or len(sets) < 2:
        return None
    figures = [[block.rows[one, ood].metrics["auroc"].value for one in there] for ood in sets]
    return there, rank_comparison(figures), len(sets)


@drawn
def rank_plot(detectors: list[str], found: RankComparison, sets: int, names: Names) -> Figure:
    """Demšar's diagram: average ranks, bars between detectors that do not differ significantly."""
    count = len(detectors)
    order = np.argsort(found.ranks, kind="stable")
    half = -(-count // 2)
    bars = len(found.alike)
    depth = 0.9 + 0.35 * bars
    figure = new_figure(SINGLE, 0.55 + 0.15 * (depth + half))
    axes = figure.subplots()
    axes.set(xlim=(1 - 0.42 * (count - 1), count + 0.42 * (count - 1)), ylim=(depth + half + 0.6, -2.6))
    axes.axis("off")
    axes.plot([1, count], [0, 0], color="black", linewidth=0.8)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [-0.25, 0], color="black", linewidth=0.8)
        axes.annotate(str(rank), (rank, -0.4), ha="center", va="bottom", fontsize=7)
    for place, number in enumerate(order):
        left = place < half
        y = depth + (place if left else count - 1 - place)
        rank, edge = found.ranks[number], 0.7 if left else count + 0.3
        axes.plot([rank, rank, edge], [0, y, y], color="black", linewidth=0.6)
        label = names.detector(detectors[number])
        axes.annotate(label, (edge, y), (-2 if left else 2, 0), textcoords="offset points",
                      ha="right" if left else "left", va="center", fontsize=7)  # fmt: skip
    for at, (low, high) in enumerate(found.alike):
        y = 0.5 + 0.35 * at
        axes.plot([low - 0.04, high + 0.04], [y, y], color="black", linewidth=2.5, solid_capstyle="butt")
    axes.plot([1, 1 + found.critical_difference], [-1.9, -1.9], "|-", color="black", linewidth=0.8, markersize=5)
    p_value = f"p = {found.p_value:.2g}" if found.p_value >= 1e-4 else "p < 0.0001"
    text = f"CD = {found.critical_difference:.2f} ({sets} sets; Friedman {p_value})"
    axes.annotate(text, (1, -2.05), ha="left", va="bottom", fontsize=7)
    return figure
