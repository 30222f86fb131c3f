"""Metrics against scikit-learn, a pair count, exhaustive threshold sweeps and cases worked by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oodbench import metrics
from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS, Counts, accuracy, detection_error, evaluate, needed_for_recall

tied_scores = st.lists(st.integers(-4, 4), min_size=2, max_size=30)
any_scores = st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3), min_size=2, max_size=30)
score_lists = tied_scores | any_scores


def by_scikit_learn(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    scores = np.concatenate([id_scores, ood_scores])
    is_id = np.arange(len(scores)) < len(id_scores)
    fpr, tpr, _ = roc_curve(is_id, scores, drop_intermediate=False)
    fpr_of_id, tpr_of_ood, _ = roc_curve(~is_id, -scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(is_id, scores),
        "fpr_at_95_id_recall": fpr[np.argmax(tpr >= 0.95)],
        "fpr_at_95_ood_recall": fpr_of_id[np.argmax(tpr_of_ood >= 0.95)],
        "aupr_in": average_precision_score(is_id, scores),
        "aupr_out": average_precision_score(~is_id, -scores),
        "detection_error": np.min((1 - tpr + fpr) / 2),
    }


def by_exhaustion(id_scores: list[float], ood_scores: list[float], minimum_id_recall: float) -> dict[str, float]:
    """The definitions, word for word, over every threshold, in fractions."""
    n, m = len(id_scores), len(ood_scores)
    scores = sorted({*id_scores, *ood_scores})
    wins = sum(Fraction(s > t) + Fraction(s == t, 2) for s in id_scores for t in ood_scores)
    kept = {v: sum(s >= v for s in id_scores) for v in scores}
    accepted = {v: sum(t >= v for t in ood_scores) for v in scores}
    flagged = {v: sum(s <= v for s in id_scores) for v in scores}
    caught = {v: sum(t <= v for t in ood_scores) for v in scores}
    ends = [(0, 0)] + [(kept[v], accepted[v]) for v in scores]
    return {
        "auroc": float(wins / (n * m)),
        "fpr_at_95_id_recall": accepted[max(v for v in scores if 100 * kept[v] >= 95 * n)] / m,
        "fpr_at_95_ood_recall": flagged[min(v for v in scores if 100 * caught[v] >= 95 * m)] / n,
        "detection_error": float(
            min(
                (1 - Fraction(k, n) + Fraction(a, m)) / 2
                for k, a in ends
                if Fraction(k, n) >= Fraction(str(minimum_id_recall))
            )
        ),
    }


def draws(kind: str, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(len(kind) + n)
    id_scores, ood_scores = generator.normal(1, 1, n), generator.normal(0, 2, m)
    return {
        "gaussian": (id_scores, ood_scores),
        "rounded": (id_scores.round(1), ood_scores.round(1)),
        "thousands": ((1000 * id_scores + 5000).round(), (1000 * ood_scores + 5000).round()),
        "negative": (id_scores - 40, ood_scores - 40),
        "saturated": (np.minimum(id_scores, 1), np.minimum(ood_scores, 1)),
        "constant": (np.full(n, -7.0), np.full(m, -7.0)),
        "separated": (id_scores + 100, ood_scores),
        "inverted": (id_scores, ood_scores + 100),
    }[kind]


KINDS = ["gaussian", "rounded", "thousands", "negative", "saturated", "constant", "separated", "inverted"]


@pytest.mark.parametrize("sizes", [(2, 2), (7, 40), (1000, 50), (50, 1000), (20_000, 10_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_equals_scikit_learn(kind: str, sizes: tuple[int, int]) -> None:
    id_scores, ood_scores = draws(kind, *sizes)
    expected = by_scikit_learn(id_scores, ood_scores)
    assert evaluate(id_scores, ood_scores) == pytest.approx(expected, abs=1e-9, rel=0)


def test_evaluate_equals_scikit_learn_on_a_large_set() -> None:
    id_scores, ood_scores = draws("gaussian", 300_000, 200_000)
    expected = by_scikit_learn(id_scores, ood_scores)
    assert evaluate(id_scores, ood_scores) == pytest.approx(expected, abs=1e-9, rel=0)


@given(score_lists, score_lists, st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
def test_metrics_equal_their_definitions(id_scores: list[float], ood_scores: list[float], minimum: float) -> None:
    expected = by_exhaustion(id_scores, ood_scores, minimum)
    values = evaluate(id_scores, ood_scores)
    values["detection_error"] = detection_error(Counts.of(id_scores, ood_scores), minimum)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_auroc_equals_the_pair_count(kind: str) -> None:
    id_scores, ood_scores = draws(kind, 400, 300)
    difference = id_scores[:, None] - ood_scores[None, :]
    expected = np.mean((difference > 0) + (difference == 0) / 2)
    assert evaluate(id_scores, ood_scores)["auroc"] == pytest.approx(expected, abs=1e-12)


def test_counts_of_a_hand_case() -> None:
    counts = Counts.of([3, 1, 2], [2, 0])
    assert counts.thresholds.tolist() == [math.inf, 3, 2, 1, 0]
    assert counts.id_counts.tolist() == [0, 1, 2, 3, 3]
    assert counts.ood_counts.tolist() == [0, 0, 1, 1, 2]
    assert counts.id_counts_below.tolist() == [0, 0, 1, 2, 3]
    assert counts.ood_counts_below.tolist() == [0, 1, 1, 2, 2]
    assert (counts.n_id, counts.n_ood) == (3, 2)


@given(score_lists, score_lists)
def test_counts_are_the_numbers_at_or_above(id_scores: list[float], ood_scores: list[float]) -> None:
    counts = Counts.of(id_scores, ood_scores)
    assert counts.thresholds[1:].tolist() == sorted({*id_scores, *ood_scores}, reverse=True)
    assert counts.id_counts.tolist() == [sum(s >= v for s in id_scores) for v in counts.thresholds]
    assert counts.ood_counts.tolist() == [sum(t >= v for t in ood_scores) for v in counts.thresholds]


def test_the_two_fprs_on_a_skewed_case_by_hand() -> None:
    id_scores = range(1, 21)
    ood_scores = [0.0] * 18 + [5.5, 30.0]
    values = evaluate(list(id_scores), ood_scores)
    # 19 of 20 ID are kept at 2, where 5.5 and 30 of the 20 OOD pass.
    assert values["fpr_at_95_id_recall"] == 2 / 20
    # 19 of 20 OOD are caught at 5.5, where ID 1 to 5 are flagged.
    assert values["fpr_at_95_ood_recall"] == 5 / 20


def test_average_precision_by_hand() -> None:
    # Descending: ID, OOD, ID+OOD tied, OOD. Precision at the ID steps: 1/1, 2/4; recall rises by 1/2 at each.
    counts = Counts.of([4, 2], [3, 2, 1])
    assert metrics.aupr_in(counts) == pytest.approx((1 + 2 / 4) / 2)
    # Ascending: OOD, ID+OOD tied, OOD, ID. Precision at the OOD steps: 1/1, 2/3, 3/4.
    assert metrics.aupr_out(counts) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_detection_error_by_hand() -> None:
    counts = Counts.of([4, 3, 0], [2, 1])
    assert detection_error(counts) == pytest.approx((1 / 3 + 0) / 2)
    assert detection_error(counts, minimum_id_recall=0.95) == 1 / 2
    assert detection_error(counts, minimum_id_recall=0.6) == detection_error(counts)


def test_detection_error_of_an_inverted_detector_is_a_half() -> None:
    assert evaluate([0, 1], [2, 3])["detection_error"] == 1 / 2


@pytest.mark.parametrize("percent", [29, 55, 57, 90, 95])
def test_detection_error_reaches_a_recall_exactly(percent: int) -> None:
    counts = Counts.of([2] * percent + [0] * (100 - percent), [1, 1])
    assert detection_error(counts, minimum_id_recall=percent / 100) == (100 - percent) / 200


@pytest.mark.parametrize("minimum", [-0.1, 1.1, math.nan])
def test_detection_error_refuses_an_impossible_recall(minimum: float) -> None:
    with pytest.raises(OodbenchError, match="minimum_id_recall"):
        detection_error(Counts.of([1, 2], [0, 1]), minimum_id_recall=minimum)


def test_the_number_needed_for_recall_is_exact() -> None:
    sizes = range(1, 5000)
    assert [needed_for_recall(n) for n in sizes] == [math.ceil(Fraction(95, 100) * n) for n in sizes]


@given(score_lists, score_lists, st.data())
def test_strictly_increasing_maps_change_nothing(
    id_scores: list[float], ood_scores: list[float], data: st.DataObject
) -> None:
    distinct = sorted({*id_scores, *ood_scores})
    images = sorted(
        data.draw(
            st.sets(
                st.floats(allow_nan=False, allow_infinity=False),
                min_size=len(distinct),
                max_size=len(distinct),
            )
        )
    )
    increasing = dict(zip(distinct, images, strict=True))
    mapped = evaluate([increasing[s] for s in id_scores], [increasing[t] for t in ood_scores])
    assert mapped == evaluate(id_scores, ood_scores)


@given(score_lists, score_lists)
def test_negating_the_scores_exchanges_the_classes(id_scores: list[float], ood_scores: list[float]) -> None:
    values = evaluate(id_scores, ood_scores)
    mirrored = evaluate([-t for t in ood_scores], [-s for s in id_scores])
    assert mirrored["auroc"] == values["auroc"]
    assert mirrored["aupr_in"] == values["aupr_out"]
    assert mirrored["aupr_out"] == values["aupr_in"]
    assert mirrored["fpr_at_95_id_recall"] == values["fpr_at_95_ood_recall"]
    assert mirrored["fpr_at_95_ood_recall"] == values["fpr_at_95_id_recall"]
    assert mirrored["detection_error"] == values["detection_error"]


@given(score_lists, score_lists)
def test_every_metric_is_a_share(id_scores: list[float], ood_scores: list[float]) -> None:
    values = evaluate(id_scores, ood_scores)
    assert list(values) == list(METRICS)
    assert all(type(value) is float and 0 <= value <= 1 for value in values.values())
    assert values["detection_error"] <= 1 / 2


@given(score_lists, score_lists, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(
    id_scores: list[float], ood_scores: list[float], order: random.Random
) -> None:
    shuffled = (order.sample(scores, len(scores)) for scores in (id_scores, ood_scores))
    assert evaluate(*shuffled) == evaluate(id_scores, ood_scores)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 50), st.integers(2, 50))
def test_constant_scores(value: float, n: int, m: int) -> None:
    assert evaluate([value] * n, [value] * m) == pytest.approx(
        {
            "auroc": 0.5,
            "fpr_at_95_id_recall": 1.0,
            "fpr_at_95_ood_recall": 1.0,
            "aupr_in": n / (n + m),
            "aupr_out": m / (n + m),
            "detection_error": 0.5,
        }
    )


def test_perfect_scores() -> None:
    assert evaluate([5.0, 6.0, 7.0], [-1.0, 0.0]) == {
        "auroc": 1.0,
        "fpr_at_95_id_recall": 0.0,
        "fpr_at_95_ood_recall": 0.0,
        "aupr_in": 1.0,
        "aupr_out": 1.0,
        "detection_error": 0.0,
    }


def test_zero_and_minus_zero_are_a_tie() -> None:
    assert evaluate([0.0, 0.0], [-0.0, -0.0])["auroc"] == 0.5


def test_neighbouring_floats_are_no_tie() -> None:
    above = np.nextafter(1.0, 2.0)
    assert evaluate([above, above], [1.0, 1.0])["auroc"] == 1.0


@pytest.mark.parametrize("convert", [list, tuple, torch.tensor, np.array, lambda s: np.array(s)[::1]])
def test_any_array_like_is_read(convert: Callable) -> None:
    id_scores, ood_scores = [3.0, 1.0, 2.0], [2.0, 0.0]
    assert evaluate(convert(id_scores), convert(ood_scores)) == evaluate(id_scores, ood_scores)


def test_the_scores_are_left_as_they_were() -> None:
    id_scores, ood_scores = np.array([3.0, 1.0, 2.0]), np.array([2.0, 5.0, 0.0])
    evaluate(id_scores, ood_scores)
    assert id_scores.tolist() == [3, 1, 2] and ood_scores.tolist() == [2, 5, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["ID", "OOD"])
def test_scores_that_are_not_finite_raise_and_name_side_and_index(side: str, bad: float) -> None:
    good, spoilt = np.zeros(9), np.zeros(9)
    spoilt[[4, 7]] = bad
    pair = (spoilt, good) if side == "ID" else (good, spoilt)
    with pytest.raises(OodbenchError, match=rf"^{side} score 4 is {bad} \(2 of 9"):
        evaluate(*pair)
    with pytest.raises(OodbenchError, match=r"^odin on (cifar10|svhn) score 4"):
        Counts.of(*pair, id_name="odin on cifar10", ood_name="odin on svhn")


@pytest.mark.parametrize("kind", [np.int64, np.uint64, list])
def test_whole_numbers_are_exact_or_refused(kind: Any) -> None:
    """Neighbours beyond 2^53 would be ties, and the AUROC of these 0.75 instead of 1."""
    convert = kind if kind is list else partial(np.array, dtype=kind)
    most = 2**53
    assert evaluate(convert([most, most - 1]), convert([most - 2, 0]))["auroc"] == 1.0
    for side, pair in (("ID", ([most + 1, most], [0, 1])), ("OOD", ([5, 6], [most + 1, most]))):
        with pytest.raises(OodbenchError, match=rf"^{side} scores are whole numbers beyond ±2\^53"):
            evaluate(*map(convert, pair))
    if kind is not np.uint64:
        with pytest.raises(OodbenchError, match="beyond"):
            evaluate(convert([-most - 1, -most - 2]), [0.0, 1.0])


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        ([], "0 score"),
        ([1.0], "1 score"),
        (1.0, r"shape \(\)"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        (["1.0", "2.0"], "dtype"),
        ([1 + 2j, 1j], "dtype"),
        ([None, 1.0], "dtype"),
        ([[1.0], [1.0, 2.0]], "cannot be read"),
        (torch.zeros(3, requires_grad=True), "cannot be read"),
        (torch.zeros(3, dtype=torch.bfloat16), "cannot be read"),
    ],
)
def test_what_is_no_list_of_scores_raises(scores: object, complaint: str) -> None:
    with pytest.raises(OodbenchError, match=f"ID.*{complaint}"):
        evaluate(scores, [0.0, 1.0])
    with pytest.raises(OodbenchError, match=f"OOD.*{complaint}"):
        evaluate([0.0, 1.0], scores)


def test_accuracy() -> None:
    assert accuracy([1, 2, 3, 4], [1, 2, 0, 4]) == 0.75
    assert accuracy(torch.tensor([1, 2]), np.array([2, 2], dtype=np.uint8)) == 0.5


@pytest.mark.parametrize(
    ("predictions", "labels", "complaint"),
    [
        ([], [], "one prediction a label"),
        ([1, 2], [1], "one prediction a label"),
        ([[1, 2]], [[1, 2]], "one prediction a label"),
        ([0.2, 0.9], [0, 1], "argmax"),
        ([True, False], [0, 1], "argmax"),
    ],
)
def test_accuracy_refuses(predictions: object, labels: object, complaint: str) -> None:
    with pytest.raises(OodbenchError, match=complaint):
        accuracy(predictions, labels)
