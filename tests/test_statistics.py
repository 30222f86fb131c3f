"""Intervals and tests against naive versions of themselves, SciPy's bootstrap, and simulated coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oodbench.errors import OodbenchError
from oodbench.metrics import evaluate
from oodbench.statistics import bootstrap_fpr_interval, delong_interval, delong_test, holm, midranks


def naive_components(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components by comparing every pair."""
    won = (id_scores[:, None] > ood_scores) + (id_scores[:, None] == ood_scores) / 2
    return won.mean(axis=1), won.mean(axis=0)


def naive_covariance(detectors: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The covariance matrix of the detectors' AUROCs: S10 / n + S01 / m (DeLong et al. 1988)."""
    components = [naive_components(*scores) for scores in detectors]
    n, m = (len(component) for component in components[0])
    return np.cov([c[0] for c in components]) / n + np.cov([c[1] for c in components]) / m


def draw(generator: np.random.Generator, n: int, m: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    return generator.normal(1, 1, n).round(decimals), generator.normal(0, 1, m).round(decimals)


@pytest.mark.parametrize("decimals", [8, 0])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_delong_interval_equals_the_naive_one(decimals: int, confidence: float) -> None:
    id_scores, ood_scores = draw(np.random.default_rng(1), 70, 45, decimals)
    area = naive_components(id_scores, ood_scores)[0].mean()
    deviation = np.sqrt(naive_covariance([(id_scores, ood_scores)]))
    half_width = stats.norm.ppf((1 + confidence) / 2) * deviation / (area * (1 - area))
    odds = np.exp(np.log(area / (1 - area)) + np.array([-half_width, half_width]))
    assert delong_interval(id_scores, ood_scores, confidence) == pytest.approx(odds / (1 + odds), abs=1e-12)


def test_delong_interval_is_near_the_bootstrap_interval() -> None:
    id_scores, ood_scores = draw(np.random.default_rng(2), 150, 200)
    bootstrap = stats.bootstrap(
        (id_scores, ood_scores),
        lambda s, t: evaluate(s, t)["auroc"],
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert delong_interval(id_scores, ood_scores) == pytest.approx(tuple(bootstrap.confidence_interval), abs=0.01)


def test_delong_interval_covers_the_true_auroc() -> None:
    generator = np.random.default_rng(3)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    intervals = [delong_interval(*draw(generator, 50, 80)) for _ in range(1000)]
    coverage = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.93 <= coverage <= 0.97


@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=12),
    st.lists(st.integers(-3, 3), min_size=2, max_size=12),
    st.sampled_from([0.5, 0.9, 0.999]),
)
def test_delong_interval_holds_the_auroc_within_0_and_1(
    id_scores: list[int], ood_scores: list[int], confidence: float
) -> None:
    low, high = delong_interval(id_scores, ood_scores, confidence)
    assert 0 <= low <= evaluate(id_scores, ood_scores)["auroc"] + 1e-12
    assert evaluate(id_scores, ood_scores)["auroc"] - 1e-12 <= high <= 1
    assert low < high


@pytest.mark.parametrize(("n", "m"), [(2, 2), (50, 30), (30, 500)])
def test_a_perfect_auroc_gets_the_clopper_pearson_bound(n: int, m: int) -> None:
    perfect, inverted = np.ones(n), np.zeros(m)
    fewer = min(n, m)
    exact = stats.binomtest(fewer, fewer).proportion_ci(0.95, method="exact")
    assert delong_interval(perfect, inverted) == pytest.approx((exact.low, 1.0))
    assert delong_interval(inverted, perfect) == pytest.approx((0.0, 1 - exact.low))


def test_a_constant_detector_is_not_certainly_at_a_half() -> None:
    low, high = delong_interval(np.zeros(40), np.zeros(40))
    assert low == pytest.approx(0.5 * 0.025 ** (1 / 40))
    assert high == pytest.approx(1 - low)


def correlated(generator: np.random.Generator, n: int, m: int, shift: float = 0.0) -> list[np.ndarray]:
    """Scores of two detectors on the same images that share half of their noise: ID a, OOD a, ID b, OOD b."""
    common = generator.normal(0, 1, n), generator.normal(0, 1, m)
    id_a, id_b = (1 + common[0] + generator.normal(0, 1, n) for _ in range(2))
    ood_a, ood_b = (common[1] + generator.normal(0, 1, m) for _ in range(2))
    return [id_a + shift, ood_a, id_b, ood_b]


@pytest.mark.parametrize("decimals", [8, 0])
def test_delong_test_equals_the_naive_one(decimals: int) -> None:
    id_a, ood_a, id_b, ood_b = (s.round(decimals) for s in correlated(np.random.default_rng(4), 60, 90, 0.5))
    covariance = naive_covariance([(id_a, ood_a), (id_b, ood_b)])
    difference = evaluate(id_a, ood_a)["auroc"] - evaluate(id_b, ood_b)["auroc"]
    deviation = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    result = delong_test(id_a, ood_a, id_b, ood_b)
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert result.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / deviation), abs=1e-12)


def test_delong_test_rejects_true_hypotheses_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    p_values = [delong_test(*correlated(generator, 60, 60)).p_value for _ in range(1000)]
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07
    assert 0.45 <= np.mean(np.array(p_values) <= 0.5) <= 0.55


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=24))
def test_delong_test_is_antisymmetric_and_finds_no_difference_in_ranks(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    forth, back = delong_test(a[:2], a[2:], b[:2], b[2:]), delong_test(b[:2], b[2:], a[:2], a[2:])
    assert 0 <= forth.p_value <= 1
    assert forth == (-back.difference, back.p_value)
    assert delong_test(a[:2], a[2:], np.exp(a[:2]), np.exp(a[2:])) == (0.0, 1.0)


def test_delong_test_without_variance_is_bounded() -> None:
    perfect, inverted = (np.ones(30), np.zeros(20)), (np.zeros(30), np.ones(20))
    assert delong_test(*perfect, *inverted) == pytest.approx((1, 2 * math.exp(-20 / 2)))
    assert delong_test([1, 1], [0, 0], [0, 0], [0, 0]) == (0.5, 1.0)


def test_delong_test_refuses_different_images() -> None:
    with pytest.raises(OodbenchError, match="detector a scored 3 ID and 2 OOD, detector b 2 and 2"):
        delong_test([1, 2, 3], [0, 1], [1, 2], [0, 1])


@pytest.mark.parametrize("decimals", [8, 0])
@pytest.mark.parametrize("name", ["fpr_at_95_id_recall", "fpr_at_95_ood_recall"])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_bootstrap_interval_equals_explicit_resampling(name: str, decimals: int, confidence: float) -> None:
    id_scores, ood_scores = draw(np.random.default_rng(7), 90, 130, decimals)
    explicit = stats.bootstrap(
        (id_scores, ood_scores),
        lambda s, t: evaluate(s, t)[name],
        vectorized=False,
        n_resamples=4000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    interval = bootstrap_fpr_interval(id_scores, ood_scores, confidence)[name]
    assert interval == pytest.approx(tuple(explicit), abs=0.02)


def test_bootstrap_interval_covers_the_true_fpr() -> None:
    generator = np.random.default_rng(8)
    truth = stats.norm.sf(1 + stats.norm.ppf(0.05))
    covered = []
    for _ in range(500):
        intervals = bootstrap_fpr_interval(*draw(generator, 400, 300), replicates=1000)
        covered.append([low <= truth <= high for low, high in intervals.values()])
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) <= 0.03)


def test_bootstrap_is_seeded() -> None:
    scores = draw(np.random.default_rng(9), 200, 200)
    assert bootstrap_fpr_interval(*scores, seed=1) == bootstrap_fpr_interval(*scores, seed=1)
    assert bootstrap_fpr_interval(*scores, seed=1) != bootstrap_fpr_interval(*scores, seed=2)


def test_an_fpr_of_0_or_1_is_not_certain() -> None:
    high_of = {m: stats.binomtest(0, m).proportion_ci(0.95, method="exact").high for m in (40, 60)}
    perfect = bootstrap_fpr_interval(np.ones(40), np.zeros(60))
    assert perfect["fpr_at_95_id_recall"] == pytest.approx((0, high_of[60]))
    assert perfect["fpr_at_95_ood_recall"] == pytest.approx((0, high_of[40]))
    inverted = bootstrap_fpr_interval(np.zeros(40), np.ones(60))
    assert inverted["fpr_at_95_id_recall"] == pytest.approx((1 - high_of[60], 1))
    assert inverted["fpr_at_95_ood_recall"] == pytest.approx((1 - high_of[40], 1))


def test_bootstrap_refuses_no_replicates() -> None:
    with pytest.raises(OodbenchError, match="replicates"):
        bootstrap_fpr_interval([1, 2], [0, 1], replicates=0)


@pytest.mark.parametrize("interval", [delong_interval, bootstrap_fpr_interval])
@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, math.nan])
def test_intervals_refuse_an_impossible_confidence(interval: Callable, confidence: float) -> None:
    with pytest.raises(OodbenchError, match="confidence"):
        interval([1, 2], [0, 1], confidence)


@pytest.mark.parametrize("function", [delong_interval, bootstrap_fpr_interval])
def test_scores_that_are_not_finite_raise(function: Callable) -> None:
    with pytest.raises(OodbenchError, match="OOD score 1 is nan"):
        function([1, 2], [0, math.nan])
    with pytest.raises(OodbenchError, match="detector b, ID score 0 is inf"):
        delong_test([1, 2], [0, 1], [math.inf, 1], [0, 1])


def test_holm_by_hand() -> None:
    # Sorted: 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1 = 0.04, raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]).tolist() == [1, 1]
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 1.0]), min_size=1, max_size=6))
def test_holm_equals_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    """A hypothesis is rejected where Bonferroni's test rejects every group of hypotheses that holds it."""
    numbers = range(len(p_values))
    groups = [g for size in numbers for g in itertools.combinations(numbers, size + 1)]
    expected = [
        max(min(1.0, len(g) * min(p_values[k] for k in g)) for g in groups if number in g) for number in numbers
    ]
    assert holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [[0.1, 1.1], [-0.1], [math.nan], [[0.1]], 0.1])
def test_holm_refuses_what_is_no_list_of_p_values(bad: object) -> None:
    with pytest.raises(OodbenchError, match="p-values"):
        holm(bad)


@given(st.lists(st.integers(-3, 3) | st.floats(-1, 1, width=16), min_size=1, max_size=30))
def test_midranks_are_scipys(values: list[float]) -> None:
    from scipy.stats import rankdata

    np.testing.assert_array_equal(midranks(values), rankdata(values))
