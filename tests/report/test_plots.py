"""The small plots say what the metrics say: areas, 95 % points, shares."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.metrics import Counts, evaluate
from oodbench.report.plots import BINS, HEIGHT, SIDE, Bars, bars, histogram, points_at_95, roc, ticks
from oodbench.report.runs import Measurement

# Few distinct values, so that ties abound.
pairs = st.tuples(*[st.lists(st.integers(-8, 8), min_size=2, max_size=60)] * 2)


def measured(id_scores: Any, ood_scores: Any) -> Measurement:
    id_scores, ood_scores = np.asarray(id_scores, float), np.asarray(ood_scores, float)
    one = SimpleNamespace(id_scores=id_scores, ood_scores=ood_scores, counts=Counts.of(id_scores, ood_scores))
    return cast(Measurement, one)


def drawn(id_scores: Any, ood_scores: Any) -> Bars:
    return bars(measured(id_scores, ood_scores))


def curve(points: str) -> tuple[np.ndarray, np.ndarray]:
    """Points of a polyline in fractions, y upwards."""
    x, y = np.array([point.split(",") for point in points.split()], dtype=float).T
    return x / SIDE, 1 - y / SIDE


def area(points: str) -> float:
    x, y = curve(points)
    return float(np.trapezoid(y, x))


def heights(path: str) -> np.ndarray:
    """Of each bin of a histogram's path, in fractions of the highest."""
    steps = re.findall(r"V(\d+)h(\d+)", path)
    units = SIDE // BINS
    return 1 - np.repeat([int(y) for y, _ in steps], [int(width) // units for _, width in steps]) / HEIGHT


@given(pairs)
def test_the_area_under_the_roc_is_the_auroc(scores: tuple[list[int], list[int]]) -> None:
    assert area(roc(measured(*scores))) == pytest.approx(evaluate(*scores)["auroc"], abs=2 / SIDE)


@given(pairs)
def test_the_95_percent_points_are_those_of_both_metrics(scores: tuple[list[int], list[int]]) -> None:
    counts, values = Counts.of(*scores), evaluate(*scores)
    at_id_recall, at_ood_recall = points_at_95(counts)
    assert counts.ood_counts[at_id_recall] / counts.n_ood == values["fpr_at_95_id_recall"]
    assert counts.id_counts[at_id_recall] / counts.n_id >= 0.95
    assert 1 - counts.id_counts[at_ood_recall] / counts.n_id == pytest.approx(values["fpr_at_95_ood_recall"])
    assert counts.ood_counts[at_ood_recall] / counts.n_ood <= 0.05


@given(pairs)
def test_the_threshold_stands_where_its_score_does(scores: tuple[list[int], list[int]]) -> None:
    counts, (edges, _, _) = Counts.of(*scores), histogram(*(np.array(part, float) for part in scores))
    threshold = np.clip(counts.thresholds[points_at_95(counts)[0]], edges[0], edges[-1])
    assert drawn(*scores).threshold == pytest.approx(np.interp(threshold, edges[[0, -1]], [0, SIDE]), abs=0.06)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_evenly_apart_and_inside(low: float, width: float) -> None:
    found = np.array(ticks(low, low + width))
    assert 2 <= len(found) <= 6 and (found >= low - 1e-6 * width).all() and (found <= low + width * (1 + 1e-6)).all()
    np.testing.assert_allclose(np.diff(found), np.diff(found)[0], rtol=1e-3)


def test_ticks_by_hand() -> None:
    assert ticks(0, 1) == [0, 0.5, 1] and ticks(-3.2, 11.9) == [0, 5, 10] and ticks(0.31, 0.72) == [0.4, 0.5, 0.6, 0.7]


@given(pairs)
def test_histograms_hold_every_score(scores: tuple[list[int], list[int]]) -> None:
    edges, id_shares, ood_shares = histogram(*(np.array(part, float) for part in scores))
    assert len(edges) == BINS + 1 and (np.diff(edges) > 0).all()
    assert id_shares.sum() == pytest.approx(1) and ood_shares.sum() == pytest.approx(1)


def test_a_far_outlier_does_not_squeeze_the_histogram() -> None:
    draw = np.random.default_rng(0)
    _, id_shares, _ = histogram(np.append(draw.normal(0, 1, 999), -1e9), draw.normal(-2, 1, 1000))
    assert np.count_nonzero(id_shares) > BINS / 3


def test_a_constant_detector_can_be_drawn() -> None:
    picture = drawn([1.0] * 5, [1.0] * 5)
    assert heights(picture.id_bars).max() == 1 and picture.highest_bar == 1
    assert area(roc(measured([1.0] * 5, [1.0] * 5))) == pytest.approx(0.5)


def test_both_histograms_have_one_scale() -> None:
    picture = drawn([1.0] * 10, [0.0] * 5 + [0.5] * 5)
    assert heights(picture.id_bars).max() == 1 and heights(picture.ood_bars).max() == pytest.approx(0.5)


def test_a_curve_over_many_images_stays_small() -> None:
    draw = np.random.default_rng(1)
    one = measured(draw.normal(1, 1, 50_000), draw.normal(0, 1, 50_000))
    assert len(roc(one)) < 400 and len(bars(one).id_bars) < 400
    assert area(roc(one)) == pytest.approx(0.760, abs=0.01)
