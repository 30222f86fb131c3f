"""The small plots say what the metrics say: areas, 95 % points, shares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.metrics import Counts, evaluate
from oodbench.report.plots import BINS, SIDE, Plots, histogram, plots, points_at_95
from oodbench.report.runs import Measurement

# Few distinct values, so that ties abound.
pairs = st.tuples(*[st.lists(st.integers(-8, 8), min_size=2, max_size=60)] * 2)


def drawn(id_scores: Any, ood_scores: Any) -> Plots:
    id_scores, ood_scores = np.asarray(id_scores, float), np.asarray(ood_scores, float)
    one = SimpleNamespace(id_scores=id_scores, ood_scores=ood_scores, counts=Counts.of(id_scores, ood_scores))
    return plots(cast(Measurement, one))


def curve(points: str) -> tuple[np.ndarray, np.ndarray]:
    """Points of a polyline in fractions, y upwards."""
    x, y = np.array([point.split(",") for point in points.split()], dtype=float).T
    return x / SIDE, 1 - y / SIDE


def area(points: str) -> float:
    x, y = curve(points)
    return float(np.trapezoid(y, x))


def bars(path: str) -> np.ndarray:
    """Heights of a histogram's path in fractions of the highest."""
    heights = [step[1:].split("h")[0] for step in path.replace("V", " V").split() if step.startswith("V")]
    return 1 - np.array(heights[:BINS], dtype=float) / SIDE


@given(pairs)
def test_the_area_under_the_roc_is_the_auroc(scores: tuple[list[int], list[int]]) -> None:
    assert area(drawn(*scores).roc) == pytest.approx(evaluate(*scores)["auroc"], abs=2 / SIDE)


@given(pairs)
def test_the_area_under_precision_recall_is_the_aupr(scores: tuple[list[int], list[int]]) -> None:
    picture, values = drawn(*scores), evaluate(*scores)
    assert area(picture.pr_in) == pytest.approx(values["aupr_in"], abs=2 / SIDE)
    assert area(picture.pr_out) == pytest.approx(values["aupr_out"], abs=2 / SIDE)


@given(pairs)
def test_the_95_percent_points_are_those_of_both_metrics(scores: tuple[list[int], list[int]]) -> None:
    counts, values = Counts.of(*scores), evaluate(*scores)
    at_id_recall, at_ood_recall = points_at_95(counts)
    assert counts.ood_counts[at_id_recall] / counts.n_ood == values["fpr_at_95_id_recall"]
    assert counts.id_counts[at_id_recall] / counts.n_id >= 0.95
    assert 1 - counts.id_counts[at_ood_recall] / counts.n_id == pytest.approx(values["fpr_at_95_ood_recall"])
    assert counts.ood_counts[at_ood_recall] / counts.n_ood <= 0.05


@given(pairs)
def test_the_95_percent_points_lie_on_the_curve(scores: tuple[list[int], list[int]]) -> None:
    picture = drawn(*scores)
    x, y = curve(picture.roc)
    for point in (picture.at_id_recall, picture.at_ood_recall):
        px, py = point[0] / SIDE, 1 - point[1] / SIDE
        nearest = [
            np.abs(np.linspace(x[i], x[i + 1], 201) - px) + np.abs(np.linspace(y[i], y[i + 1], 201) - py)
            for i in range(len(x) - 1)
        ]
        assert np.min(nearest) < 2.1 / SIDE


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
    assert bars(picture.id_bars).max() == 1 and picture.highest_bar == 1
    assert area(picture.roc) == pytest.approx(0.5) and picture.at_id_recall == (SIDE, 0)


def test_both_histograms_have_one_scale() -> None:
    picture = drawn([1.0] * 10, [0.0] * 5 + [0.5] * 5)
    assert bars(picture.id_bars).max() == 1 and bars(picture.ood_bars).max() == pytest.approx(0.5)


def test_a_curve_over_many_images_stays_small() -> None:
    draw = np.random.default_rng(1)
    picture = drawn(draw.normal(1, 1, 50_000), draw.normal(0, 1, 50_000))
    assert len(picture.roc) < 3500 and len(picture.pr_in) < 3500 and len(picture.id_bars) < 500
    assert area(picture.roc) == pytest.approx(0.760, abs=0.01)
