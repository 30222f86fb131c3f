"""Small plots of one measurement as numbers for an inline SVG: score histogram, ROC.

Curves are drawn on a grid of SIDE units, to within a unit: a curve over any number of images is some dozen points,
so that a page with hundreds of plots stays small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oodbench.metrics import Counts, needed_for_recall
from oodbench.report.runs import Measurement

SIDE = 200
HEIGHT = 80
"""Of a histogram, which is SIDE wide."""
BINS = 40
TAILS = (0.5, 99.5)
"""The percentiles of all scores between which a histogram's axis runs."""
CLOSE = 1
"""Units of the grid that a point left out may lie off the line that is drawn."""


@dataclass(frozen=True)
class Bars:
    """What the template draws of a histogram, in units of the grid, y downwards.

    Attributes:
        id_bars, ood_bars: outlines of the two histograms, each a share of its own set, to one scale.
        ticks: (place, score) on the axis; what lies beyond its ends is in the outer bins.
        highest_bar: the share of a set in the highest bin.
        threshold: the place of the score that keeps 95 % of ID.
    """

    id_bars: str
    ood_bars: str
    ticks: list[tuple[float, str]]
    highest_bar: float
    threshold: float


def bars(one: Measurement) -> Bars:
    """The histogram of one classifier, detector and OOD set."""
    edges, id_shares, ood_shares = histogram(one.id_scores, one.ood_scores)
    low, high = float(edges[0]), float(edges[-1])
    highest = float(max(id_shares.max(), ood_shares.max()))

    def place(score: float) -> float:
        return round(SIDE * (min(max(score, low), high) - low) / (high - low), 1)

    return Bars(
        id_bars=_outline(id_shares / highest),
        ood_bars=_outline(ood_shares / highest),
        ticks=[(place(tick), f"{tick:.6g}") for tick in ticks(low, high)],
        highest_bar=highest,
        threshold=place(float(one.counts.thresholds[points_at_95(one.counts)[0]])),
    )


def ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers from low to high, evenly apart."""
    power = 10.0 ** math.floor(math.log10(high - low))
    for step in (power * 10, power * 5, power * 2, power, power / 2, power / 5):
        numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        if len(numbers) >= 3:
            break
    # As decimal text gives them: 3 × 0.1 is not 0.3.
    return [float(f"{number * step:.12g}") for number in numbers][:5]


def roc(one: Measurement) -> str:
    """The curve of ID kept (y) over OOD accepted (x) as points "x,y x,y …"."""
    counts = one.counts
    return _polyline(counts.ood_counts / counts.n_ood, counts.id_counts / counts.n_id)


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


def _outline(shares: NDArray[np.float64]) -> str:
    """The outline of a histogram as a path from the axis and back to it; bins of one height are one step."""
    heights = np.rint(HEIGHT * (1 - shares)).astype(int)
    starts = np.flatnonzero(np.diff(heights, prepend=-1))
    widths = np.diff(starts, append=len(heights)) * (SIDE // BINS)
    steps = "".join(f"V{height}h{width}" for height, width in zip(heights[starts], widths, strict=True))
    return f"M0 {HEIGHT}{steps}V{HEIGHT}z"


def _polyline(x: ArrayLike, y: ArrayLike) -> str:
    """Points on the grid of a curve that never goes left."""
    points = np.column_stack([_grid(x), SIDE - _grid(y)])
    new_column = np.flatnonzero(np.diff(points[:, 0]))
    kept = points[np.unique(np.concatenate([[0], new_column, new_column + 1, [len(points) - 1]]))]
    return " ".join(f"{x},{y}" for x, y in _simplified(kept.tolist()))


def _simplified(points: list[list[int]]) -> list[list[int]]:
    """The points without those that lie CLOSE to the line between others (Ramer 1972; Douglas & Peucker 1973)."""
    kept, spans = {0, len(points) - 1}, [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        (x, y), (end_x, end_y) = points[first], points[last]
        dx, dy = end_x - x, end_y - y
        off = [abs((px - x) * dy - (py - y) * dx) for px, py in points[first + 1 : last]]
        if off and max(off) > CLOSE * math.hypot(dx, dy):
            farthest = first + 1 + off.index(max(off))
            kept.add(farthest)
            spans += [(first, farthest), (farthest, last)]
    return [points[place] for place in sorted(kept)]


def _grid(values: ArrayLike) -> NDArray[np.int64]:
    return np.rint(SIDE * np.asarray(values, dtype=np.float64)).astype(np.int64)
