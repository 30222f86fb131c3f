"""Small plots of one measurement as numbers for an inline SVG: score histogram, ROC, precision-recall.

Curves are drawn on a grid of SIDE units, exactly to that grid: a curve over any number of images is some hundred
points, so that a page with hundreds of plots stays small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oodbench.metrics import Counts, needed_for_recall
from oodbench.report.runs import Measurement

SIDE = 200
BINS = 40
TAILS = (0.5, 99.5)
"""The percentiles of all scores between which a histogram's axis runs."""


@dataclass(frozen=True)
class Plots:
    """What the template draws; points are "x,y x,y …" in units of the grid, y downwards.

    Attributes:
        id_bars, ood_bars: outlines of the two histograms, each a share of its own set, to one scale.
        low, high: the scores at the ends of the histograms' axis; what lies beyond is in the outer bins.
        highest_bar: the share of a set in the highest bin.
        roc: ID kept (y) over OOD accepted (x).
        at_id_recall, at_ood_recall: the 95 % points of both conventions on it.
        pr_in, pr_out: precision (y) over recall (x), with ID / OOD positive.
    """

    id_bars: str
    ood_bars: str
    low: str
    high: str
    highest_bar: float
    roc: str
    at_id_recall: tuple[int, int]
    at_ood_recall: tuple[int, int]
    pr_in: str
    pr_out: str


def plots(one: Measurement) -> Plots:
    """The plots of one classifier, detector and OOD set."""
    counts = one.counts
    edges, id_shares, ood_shares = histogram(one.id_scores, one.ood_scores)
    highest = float(max(id_shares.max(), ood_shares.max()))
    roc_x, roc_y = counts.ood_counts / counts.n_ood, counts.id_counts / counts.n_id
    id_point, ood_point = points_at_95(counts)
    return Plots(
        id_bars=_bars(id_shares / highest),
        ood_bars=_bars(ood_shares / highest),
        low=f"{edges[0]:.3g}",
        high=f"{edges[-1]:.3g}",
        highest_bar=highest,
        roc=_polyline(roc_x, roc_y),
        at_id_recall=_on_grid(roc_x[id_point], roc_y[id_point]),
        at_ood_recall=_on_grid(roc_x[ood_point], roc_y[ood_point]),
        pr_in=_steps(counts.id_counts, counts.ood_counts),
        pr_out=_steps(counts.ood_counts_below, counts.id_counts_below),
    )


def histogram(
    id_scores: NDArray[np.float64], ood_scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(BINS+1,) edges and the share of each set in each of the (BINS,) bins; the outer ones hold what lies beyond."""
    low, high = (float(end) for end in np.percentile(np.concatenate([id_scores, ood_scores]), TAILS))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    id_shares, ood_shares = (
        np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / len(scores) for scores in (id_scores, ood_scores)
    )
    return edges, id_shares, ood_shares


def points_at_95(counts: Counts) -> tuple[int, int]:
    """Indices into the counts: where 95 % of ID is kept, and where 95 % of OOD is caught, as the metrics read them.

    For the second, accepting scores >= threshold flags those below; so it is the lowest threshold above the score up
    to which 95 % of OOD lies.
    """
    at_id_recall = int(np.searchsorted(counts.id_counts, needed_for_recall(counts.n_id)))
    flagged = int(np.searchsorted(counts.ood_counts_below, needed_for_recall(counts.n_ood)))
    return at_id_recall, len(counts.thresholds) - 1 - flagged


def _bars(shares: NDArray[np.float64]) -> str:
    """The outline of a histogram as a path from the axis and back to it."""
    heights = np.rint(SIDE * (1 - shares)).astype(int)
    width = SIDE // BINS
    return f"M0 {SIDE}" + "".join(f"V{height}h{width}" for height in heights) + f"V{SIDE}z"


def _steps(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> str:
    """The precision-recall steps whose area is the average precision."""
    recall, precision = positives / positives[-1], positives[1:] / (positives[1:] + negatives[1:])
    x = np.repeat(recall, 2)[1:-1]
    return _polyline(x, np.repeat(precision, 2))


def _polyline(x: ArrayLike, y: ArrayLike) -> str:
    """Points of a curve that never goes left, on the grid: first and last of each column, no straight run inside."""
    points = np.column_stack([_grid(x), SIDE - _grid(y)])
    new_column = np.flatnonzero(np.diff(points[:, 0]))
    kept = points[np.unique(np.concatenate([[0], new_column, new_column + 1, [len(points) - 1]]))]
    kept = kept[np.concatenate([[True], np.diff(kept, axis=0).any(axis=1)])]
    steps = np.diff(kept, axis=0)
    # A point between two steps of one direction is not seen.
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    kept = kept[np.concatenate([[True], turns, [True]])]
    return " ".join(f"{x},{y}" for x, y in kept)


def _on_grid(x: float, y: float) -> tuple[int, int]:
    return int(_grid(x)), SIDE - int(_grid(y))


def _grid(values: ArrayLike) -> NDArray[np.int64]:
    return np.rint(SIDE * np.asarray(values, dtype=np.float64)).astype(np.int64)
