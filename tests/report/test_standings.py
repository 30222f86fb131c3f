"""Best and tied in every column: DeLong on one set, its extension to means, FPR@95 against a bootstrap of our own."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from oodbench.metrics import Counts, fpr_at_95_id_recall
from oodbench.report.comparison import Leaderboard
from oodbench.report.standings import BEST, INFLUENCES, TIED, standings
from oodbench.statistics import auroc_influence, delong_test, fpr_influence, holm, paired_test
from tests.report.conftest import gaussian_scores

Board = Callable[..., Leaderboard]
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def two_detectors(n: int, m: int, seed: int) -> tuple[Triple, Triple]:
    """ID scores and those of two OOD sets, of two detectors that see the same images."""
    draw = np.random.default_rng(seed)
    hidden = [draw.normal(shift, 1, count) for shift, count in ((0, n), (0, m), (0.3, m // 2))]

    def noisy(gap: float) -> Triple:
        first, second, third = (one + 0.7 * draw.normal(0, 1, len(one)) for one in hidden)
        return first + gap, second, third

    return noisy(2.0), noisy(1.6)


@pytest.mark.parametrize("seed", range(4))
def test_on_one_set_the_test_of_auroc_is_that_of_delong(seed: int) -> None:
    a, b = two_detectors(150, 90, seed)
    found = paired_test([auroc_influence(*a[:2])], [auroc_influence(*b[:2])])
    assert found == pytest.approx(delong_test(a[0], a[1], b[0], b[1]))


def error_of(difference: float, p_value: float) -> float:
    """The standard error that a two-sided normal test used."""
    return abs(difference) / -NormalDist().inv_cdf(p_value / 2)


@pytest.mark.parametrize("metric", ["auroc", "fpr_at_95_id_recall", "fpr_at_95_ood_recall"])
def test_the_error_of_a_difference_of_means_is_that_of_a_bootstrap(metric: str) -> None:
    """Images are drawn anew, the same for both detectors, and ID images the same for both sets."""
    a, b = two_detectors(900, 700, 1)
    influence = INFLUENCES[metric]
    found = paired_test(*([influence(of[0], oods) for oods in of[1:]] for of in (a, b)))

    def naive(ids: np.ndarray, oods: np.ndarray) -> float:
        if metric == "auroc":
            return float(np.mean(np.searchsorted(np.sort(oods), ids)) / len(oods))
        high, low = (ids, oods) if metric == "fpr_at_95_id_recall" else (-oods, -ids)
        return float(np.mean(low >= -np.sort(-high)[-(-95 * len(high) // 100) - 1]))

    draw = np.random.default_rng(2)
    differences = []
    for _ in range(1500):
        chosen = [draw.integers(0, len(one), len(one)) for one in a]
        means = [np.mean([naive(of[0][chosen[0]], of[k][chosen[k]]) for k in (1, 2)]) for of in (a, b)]
        differences.append(means[0] - means[1])
    assert error_of(*found) == pytest.approx(np.std(differences), rel=0.15)


def test_the_figure_itself_is_the_metric() -> None:
    a, _ = two_detectors(101, 83, 0)
    assert fpr_influence(a[0], a[1]).value == fpr_at_95_id_recall(Counts.of(a[0], a[1]))


def test_perfect_against_inverted_is_significant_and_equal_is_not() -> None:
    ids, oods = np.arange(100, 160.0), np.arange(0, 50.0)
    good, bad = auroc_influence(ids, oods), auroc_influence(-ids, -oods)
    assert paired_test([good], [bad]).p_value == pytest.approx(2 * np.exp(-25)) and paired_test([good], [good])[1] == 1


def test_marks_of_auroc_on_a_set_are_those_of_the_comparison(board: Board) -> None:
    gaps = {"good": 2.0, "twin": 1.9, "poor": 0.3, "worse": 1.2, "random": 0.0}
    (block,) = board(gaussian_scores(gaps, seed=2)).blocks
    for ood in block.sets:
        rows = {name: block.rows[name, ood] for name in block.detectors}
        found = standings(rows, "auroc")
        assert set(found) == {"good", "twin", "poor", "worse"}
        assert {name: one.mark for name, one in found.items()} == {name: rows[name].standing for name in found}
        for name, one in found.items():
            assert one.p_value == (rows[name].p_value if one.p_value is None else pytest.approx(rows[name].p_value))


def test_marks_of_a_mean_are_holm_corrected_and_lower_fpr_is_better(board: Board) -> None:
    scores = gaussian_scores({"good": 2.0, "twin": 1.95, "poor": 0.3}, seed=4)
    (block,) = board(scores).blocks
    means = {name: block.means[name, "all"] for name in block.detectors}
    for metric, sign in (("auroc", 1), ("fpr_at_95_id_recall", -1)):
        found = standings(means, metric)
        values = {name: sign * mean.metrics[metric].value for name, mean in means.items()}
        best = max(values, key=lambda name: values[name])
        others = [name for name in means if name != best]

        def influences(name: str, metric: str = metric) -> list:
            return [INFLUENCES[metric](scores[name, "shapes"], scores[name, ood]) for ood in ("near", "far")]

        raw = [paired_test(influences(best), influences(name)).p_value for name in others]
        corrected = dict(zip(others, holm(raw), strict=True))
        assert found[best].mark == BEST and found["poor"].mark == ""
        assert {name: found[name].p_value for name in others} == pytest.approx(corrected)
        assert all((found[name].mark == TIED) == (corrected[name] > 0.05) for name in others)


def test_of_a_metric_without_a_test_the_best_alone_is_marked(board: Board) -> None:
    (block,) = board(gaussian_scores({"good": 2.0, "twin": 1.99})).blocks
    marks = standings({name: block.rows[name, "near"] for name in block.detectors}, "detection_error")
    errors = {name: block.rows[name, "near"].metrics["detection_error"].value for name in block.detectors}
    assert {name for name, one in marks.items() if one.mark == BEST} == {min(errors, key=lambda name: errors[name])}
    assert {one.mark for one in marks.values()} == {BEST, ""}
