"""Detectors ranked over sets: Friedman's test and Nemenyi's critical difference (Demšar 2006, JMLR 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from oodbench.report.standings import SIGNIFICANCE
from oodbench.statistics import midranks


class RankComparison(NamedTuple):
    """Of k detectors over N sets.

    Attributes:
        ranks: (k,) average ranks, 1 the best, in the order of the detectors.
        p_value: of Friedman's test that all rank alike.
        critical_difference: average ranks that differ by more differ significantly (Nemenyi, 5 %).
        alike: groups of detectors whose ranks differ by no more, as (lowest, highest) average rank; none lies in
            another.
    """

    ranks: tuple[float, ...]
    p_value: float
    critical_difference: float
    alike: tuple[tuple[float, float], ...]


def rank_comparison(figures: ArrayLike) -> RankComparison:
    """Compare detectors by (N, k) figures, higher better; N >= 2 sets and k >= 3 detectors."""
    from scipy.stats import friedmanchisquare, studentized_range

    values = np.asarray(figures, dtype=np.float64)
    sets, detectors = values.shape
    ranks = np.mean([midranks(-line) for line in values], axis=0)
    # Where all are equal on every set, nothing speaks against their being alike.
    p_value = float(friedmanchisquare(*values.T).pvalue) if np.ptp(ranks) > 0 else 1.0
    quantile = float(studentized_range.ppf(1 - SIGNIFICANCE, detectors, np.inf)) / math.sqrt(2)
    difference = quantile * math.sqrt(detectors * (detectors + 1) / (6 * sets))
    return RankComparison(tuple(map(float, ranks)), p_value, difference, _alike(np.sort(ranks), difference))


def _alike(ascending: Sequence[float] | np.ndarray, difference: float) -> tuple[tuple[float, float], ...]:
    found: list[tuple[int, int]] = []
    for first, low in enumerate(ascending):
        last = int(np.searchsorted(ascending, low + difference + 1e-12, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple((float(ascending[first]), float(ascending[last])) for first, last in found)
