"""Ranks over sets: Demšar's own example, and groups by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2

from oodbench.report.ranks import rank_comparison

# AUC of C4.5, +m, +cf and +m+cf on 14 data sets: table 6 of Demšar 2006 (JMLR 7).
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
]  # fmt: skip


def test_the_example_of_the_paper() -> None:
    """Average ranks 3.143, 2.000, 2.893, 1.964; chi² 9.28 with 3 degrees, before its correction for ties; CD 1.25."""
    found = rank_comparison(DEMSAR)
    assert found.ranks == pytest.approx([3.143, 2.0, 2.893, 1.964], abs=1e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    ties = sum(count**3 - count for line in DEMSAR for count in Counter(line).values())
    corrected = 9.28 / (1 - ties / (14 * 4 * (4**2 - 1)))
    assert found.p_value == pytest.approx(chi2.sf(corrected, 3), rel=0.01)
    # 3.143 − 1.964 is less than the critical difference: one group of all.
    assert found.alike == ((pytest.approx(1.964, abs=1e-3), pytest.approx(3.143, abs=1e-3)),)


def test_groups_overlap_where_neighbours_are_alike_and_the_ends_are_not() -> None:
    figures = np.tile(np.linspace(1, 0.5, 6), (12, 1))
    found = rank_comparison(figures)
    assert found.ranks == pytest.approx([1, 2, 3, 4, 5, 6]) and 2 < found.critical_difference < 3
    assert found.alike == ((1, 3), (2, 4), (3, 5), (4, 6)) and found.p_value < 1e-6


def test_equal_detectors_are_alike() -> None:
    found = rank_comparison(np.ones((4, 3)))
    assert (found.ranks, found.p_value, found.alike) == ((2, 2, 2), 1, ((2, 2),))
