"""One test for each silent fault of a metric that was found in another suite: none of them may live here.

Not applicable: 14 (a void label of 0 that is ignored), as metrics take two arrays and know no labels.
Fault 15 (a spread of ± 0.00 from a single run) is in test_report_faults.py.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS, Counts, evaluate, needed_for_recall

BOTH_FPRS = ("fpr_at_95_id_recall", "fpr_at_95_ood_recall")


def mahalanobis_like(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return generator.normal(340, 20, 2000), generator.normal(300, 20, 2000)


def pair_count(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    return float(np.mean((id_scores[:, None] > ood_scores) + (id_scores[:, None] == ood_scores) / 2, dtype=np.float64))


def test_fault_01_a_hidden_sigmoid_turns_auroc_into_a_half() -> None:
    """pytorch-ood 0.2 through torchmetrics: scores outside [0, 1] were taken for logits and saturated."""
    id_scores, ood_scores = mahalanobis_like(np.random.default_rng(1))
    values = evaluate(id_scores, ood_scores)
    assert values["auroc"] == pytest.approx(0.921, abs=0.01)
    assert evaluate(1e4 * id_scores + 1e6, 1e4 * ood_scores + 1e6) == values
    assert evaluate(np.exp(id_scores), np.exp(ood_scores)) == values


@pytest.mark.parametrize("offset", [0, 30, -30, 1000, -1000])
def test_fault_02_auroc_right_and_aupr_in_wrong(offset: float) -> None:
    """pytorch-ood 0.2: the same sigmoid left the scores' ranks and lost those of the negated scores."""
    id_scores, ood_scores = (s / 20 + offset for s in mahalanobis_like(np.random.default_rng(2)))
    values, mirrored = evaluate(id_scores, ood_scores), evaluate(-ood_scores, -id_scores)
    assert values["aupr_in"] == mirrored["aupr_out"]
    assert values["aupr_out"] == mirrored["aupr_in"]
    assert values["aupr_in"] == pytest.approx(values["aupr_out"], abs=0.02)


@pytest.mark.parametrize("low", [0, 5000, -5000])
def test_fault_03_the_oracle_shares_the_bug(low: int) -> None:
    """torchmetrics' tests squashed the scores for scikit-learn as well; this oracle counts raw pairs."""
    generator = np.random.default_rng(3)
    id_scores, ood_scores = (
        generator.integers(low, low + 300, 500),
        generator.integers(low - 100, low + 200, 400),
    )
    assert evaluate(id_scores, ood_scores)["auroc"] == pytest.approx(pair_count(id_scores, ood_scores), abs=1e-12)


def test_fault_04_constant_detector_gets_a_perfect_fpr95() -> None:
    """oodeel took the first threshold whose recall had already fallen below 95 %, past the end of a tie."""
    constant = evaluate(np.ones(100), np.ones(100))
    assert [constant[name] for name in BOTH_FPRS] == [1.0, 1.0]

    id_scores, ood_scores = mahalanobis_like(np.random.default_rng(4))
    counts = Counts.of(np.minimum(id_scores, 305), np.minimum(ood_scores, 305))
    rate = METRICS["fpr_at_95_id_recall"](counts)
    reached = counts.id_counts[counts.ood_counts == round(rate * counts.n_ood)].max()
    assert reached >= needed_for_recall(counts.n_id)


def test_fault_04_a_saturated_top_does_not_help() -> None:
    """oodeel reported 0.505 where the tie at the top holds everything that 95 % recall needs."""
    saturated = np.minimum(np.linspace(0.94, 3, 200), 1.0)
    assert evaluate(saturated, np.r_[np.ones(101), np.zeros(99)])["fpr_at_95_id_recall"] == 101 / 200


def test_fault_05_every_fourth_threshold_only() -> None:
    """oodeel read the curve at every fourth score, so that 20 v 20 samples got a figure of a speed knob."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        id_scores, ood_scores = generator.normal(2, 1, 20), generator.normal(0, 1, 20)
        values = evaluate(id_scores, ood_scores)
        assert values["auroc"] == pytest.approx(pair_count(id_scores, ood_scores), abs=1e-12)
        assert values["fpr_at_95_id_recall"] == np.mean(ood_scores >= np.sort(id_scores)[1])
        assert values["fpr_at_95_ood_recall"] == np.mean(id_scores <= np.sort(ood_scores)[18])


def test_fault_06_label_remapping_eats_itself() -> None:
    """oodeel rewrote a label column in place; here the two classes are two arrays, and no value is a code."""
    assert list(inspect.signature(evaluate).parameters)[:2] == ["id_scores", "ood_scores"]
    assert not [name for name in inspect.signature(evaluate).parameters if "label" in name]
    generator = np.random.default_rng(6)
    like_labels, like_classes = generator.integers(0, 2, 300), generator.integers(0, 10, 300)
    forth, back = evaluate(like_classes, like_labels), evaluate(like_labels, like_classes)
    assert forth["auroc"] == pytest.approx(pair_count(like_classes, like_labels), abs=1e-12)
    assert forth["auroc"] + back["auroc"] == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("side", ["energy on cifar10", "energy on svhn"])
def test_fault_07_nan_scores_are_ranked_or_vanish(side: str) -> None:
    """pytorch-ood 0.2 ranked NaN as most OOD; in oodeel it left the confusion matrix."""
    scores = dict(zip(["energy on cifar10", "energy on svhn"], mahalanobis_like(np.random.default_rng(7)), strict=True))
    scores[side][1234] = math.nan
    with pytest.raises(OodbenchError, match=f"^{side} score 1234 is nan"):
        evaluate(*scores.values(), *scores)


@pytest.mark.parametrize("infinity", [math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_fault_08_infinities_are_ranked(side: int, infinity: float) -> None:
    """pytorch-ood 0.4 ranks them, OpenOOD crashes in scikit-learn; here either sign is a named error."""
    scores = mahalanobis_like(np.random.default_rng(8))
    scores[side][-1] = infinity
    with pytest.raises(OodbenchError, match=f"^{('ID', 'OOD')[side]} score 1999 is {infinity}"):
        evaluate(*scores)


def test_fault_09_fpr95_has_two_meanings() -> None:
    """OpenOOD changed which class is positive from v1 to v1.5 and kept the name; here each has its own."""
    # 100 ID: 94 at 10, 6 at 0. 100 OOD: 90 at -1, 10 at 5.
    values = evaluate([10] * 94 + [0] * 6, [-1] * 90 + [5] * 10)
    # Keeping 95 ID takes the threshold 0, which the 10 OOD at 5 pass.
    assert values["fpr_at_95_id_recall"] == 0.10
    # Catching 95 OOD takes the threshold 5, which flags the 6 ID at 0.
    assert values["fpr_at_95_ood_recall"] == 0.06


def test_fault_10_fpr95_averages_a_band_of_thresholds_on_a_fixed_grid() -> None:
    """odin-pytorch: nothing outside the grid was seen, and with few ID samples the band was empty."""
    id_scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    ood_scores = np.array([0.1, 0.2, 0.35, 0.45])
    values = evaluate(id_scores, ood_scores)
    assert [values[name] for name in BOTH_FPRS] == [2 / 4, 2 / 7]
    for increasing in (np.exp, np.sqrt, lambda s: s / 1e6, lambda s: 1e9 * s + 7, lambda s: s**3 - 150):
        assert evaluate(increasing(id_scores), increasing(ood_scores)) == values


def test_fault_11_dropped_points_hide_the_95_percent_point() -> None:
    """OpenOOD let scikit-learn drop collinear points: of paired ties only the ends were left, FPR95 1.0."""
    values = evaluate(np.arange(100), np.arange(100))
    assert [values[name] for name in BOTH_FPRS] == [0.95, 0.95]


@pytest.mark.parametrize(("n", "m"), [(500, 500), (900, 100), (100, 900)])
def test_fault_12_aupr_by_trapezoid_gives_a_constant_detector_three_quarters(n: int, m: int) -> None:
    """OpenOOD and pytorch-ood interpolate linearly between precisions, which rewards ties."""
    values = evaluate(np.full(n, 0.5), np.full(m, 0.5))
    assert (values["aupr_in"], values["aupr_out"]) == (n / 1000, m / 1000)


def test_fault_13_aupr_in_and_aupr_out_swapped() -> None:
    """pytorch-ood printed each under the other's name until October 2024."""
    generator = np.random.default_rng(13)
    values = evaluate(generator.normal(size=900), generator.normal(size=100))
    assert values["aupr_in"] == pytest.approx(0.9, abs=0.05)
    assert values["aupr_out"] == pytest.approx(0.1, abs=0.05)
