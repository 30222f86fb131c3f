"""The metrics of a detector: AUROC, both FPR@95, average precision, detection error. Arrays in, numbers out.

A higher score means more in-distribution (ID). Every metric is computed from the integers in one object,
`Counts`, and so depends on the ranks of the scores alone. Ties are counted half.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oodbench.errors import OodbenchError

RECALL_PERCENT = 95
"""The recall at which the two FPRs are read, in percent."""

EXACT = 2**53
"""Whole numbers up to here are exact in float64."""

MINIMUM_SCORES = 2
"""Fewer scores of a class than this say nothing about it (and have no variance)."""


def _as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as reason:
        raise OodbenchError(
            f"{name} cannot be read as an array ({reason}); pass an array, or a detached CPU tensor."
        ) from reason


def as_scores(scores: ArrayLike, name: str) -> NDArray[np.float64]:
    """Scores as a float64 array, checked.

    Args:
        scores: (N,) real numbers, N >= 2: an array, a list, a CPU tensor.
        name: whose scores these are, for the error ("energy on svhn").

    Raises:
        OodbenchError: not one-dimensional, not real numbers, too few, not finite (the index is named), or whole numbers
            that float64 does not tell apart.
    """
    array = _as_array(scores, f"{name} scores")
    if array.dtype.kind not in "fiub":
        raise OodbenchError(f"{name} scores have dtype {array.dtype}; pass real numbers.")
    if array.ndim != 1:
        raise OodbenchError(f"{name} scores have shape {array.shape}; pass one score an image, shape (N,).")
    if len(array) < MINIMUM_SCORES:
        raise OodbenchError(f"{name} has {len(array)} score(s), and metrics need {MINIMUM_SCORES}; score more images.")
    if array.dtype.kind in "iu" and (array.max() > EXACT or array.min() < -EXACT):
        raise OodbenchError(
            f"{name} scores are whole numbers beyond ±2^53, of which float64 makes ties; subtract what all have in "
            "common, or divide them."
        )
    array = array.astype(np.float64, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        index = int(np.argmin(finite))
        raise OodbenchError(
            f"{name} score {index} is {array[index]} ({np.count_nonzero(~finite)} of {len(array)} are not "
            "finite), so no metric has a meaning; look at that image and at what the detector makes of it."
        )
    return array


@dataclass(frozen=True, eq=False)
class Counts:
    """How many ID and OOD scores lie at or above each threshold: all that the metrics need to know.

    Attributes:
        thresholds: (T+1,) float64, descending: +inf (accepts none), then the T distinct scores.
        id_counts: (T+1,) int64, ID scores >= threshold: from 0 to n_id.
        ood_counts: (T+1,) int64, OOD scores >= threshold: from 0 to n_ood.
    """

    thresholds: NDArray[np.float64]
    id_counts: NDArray[np.int64]
    ood_counts: NDArray[np.int64]

    @classmethod
    def of(cls, id_scores: ArrayLike, ood_scores: ArrayLike, id_name: str = "ID", ood_name: str = "OOD") -> Counts:
        """Count the scores, (n,) of ID and (m,) of OOD, n and m >= 2; the names appear in errors.

        Raises:
            OodbenchError: scores that are not finite, not one-dimensional, not numbers, or too few.
        """
        id_negated = np.sort(-as_scores(id_scores, id_name))
        ood_negated = np.sort(-as_scores(ood_scores, ood_name))
        pooled = np.concatenate([id_negated, ood_negated])
        # Sorting values is several times faster than sorting indices, and the stable sort (timsort) then
        # merges the two sorted runs in one pass.
        order = np.argsort(pooled, kind="stable")
        values = pooled[order]
        last_of_tie = np.flatnonzero(np.append(values[1:] != values[:-1], True))

        thresholds = np.full(len(last_of_tie) + 1, np.inf)
        id_counts, ood_counts = np.zeros((2, len(last_of_tie) + 1), dtype=np.int64)
        np.negative(values[last_of_tie], out=thresholds[1:])
        id_counts[1:] = np.cumsum(order < len(id_negated), dtype=np.int64)[last_of_tie]
        np.subtract(last_of_tie + 1, id_counts[1:], out=ood_counts[1:])
        return cls(thresholds, id_counts, ood_counts)

    @property
    def n_id(self) -> int:
        """The number of ID scores."""
        return int(self.id_counts[-1])

    @property
    def n_ood(self) -> int:
        """The number of OOD scores."""
        return int(self.ood_counts[-1])

    @property
    def id_counts_below(self) -> NDArray[np.int64]:
        """(T+1,) ID scores at or below each distinct score, ascending from 0 to n_id."""
        return self.n_id - self.id_counts[::-1]

    @property
    def ood_counts_below(self) -> NDArray[np.int64]:
        """(T+1,) OOD scores at or below each distinct score, ascending from 0 to n_ood."""
        return self.n_ood - self.ood_counts[::-1]


def needed_for_recall(n: int) -> int:
    """⌈0.95·n⌉, in exact integers: how many of n scores a recall of 95 % takes."""
    return (RECALL_PERCENT * n + 99) // 100


def _fpr_at_95_recall(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> float:
    """The share of negatives accepted at the first threshold that accepts 95 % of the positives."""
    first = np.searchsorted(positives, needed_for_recall(int(positives[-1])))
    return float(negatives[first] / negatives[-1])


def _average_precision(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> float:
    """Σ (R_k − R_k−1)·P_k over the thresholds, from the cumulative counts of both classes."""
    precision = positives[1:] / (positives[1:] + negatives[1:])
    return float(np.dot(np.diff(positives), precision) / positives[-1])


def auroc(counts: Counts) -> float:
    """P(ID score > OOD score) + ½·P(equal), in [0, 1]; the same whichever class is called positive."""
    twice_pairs_won = np.dot(np.diff(counts.ood_counts), counts.id_counts[1:] + counts.id_counts[:-1])
    return float(twice_pairs_won / (2 * counts.n_id * counts.n_ood))


def fpr_at_95_id_recall(counts: Counts) -> float:
    """The share of OOD accepted where 95 % of ID is kept, in [0, 1] (ID positive).

    The threshold is the largest score τ with #{ID >= τ} >= ⌈0.95·n_id⌉; nothing is interpolated. This is what
    ODIN (arXiv 1706.02690) calls FPR at 95 % TPR.
    """
    return _fpr_at_95_recall(counts.id_counts, counts.ood_counts)


def fpr_at_95_ood_recall(counts: Counts) -> float:
    """The share of ID flagged where 95 % of OOD is caught, in [0, 1] (OOD positive).

    The threshold is the smallest score τ with #{OOD <= τ} >= ⌈0.95·n_ood⌉; nothing is interpolated. This is
    what OpenOOD v1.5 (arXiv 2306.09301) calls FPR@95.
    """
    return _fpr_at_95_recall(counts.ood_counts_below, counts.id_counts_below)


def aupr_in(counts: Counts) -> float:
    """Average precision, step-wise, with ID positive, in [0, 1]; a constant score gets the share of ID."""
    return _average_precision(counts.id_counts, counts.ood_counts)


def aupr_out(counts: Counts) -> float:
    """Average precision, step-wise, with OOD positive, in [0, 1]; a constant score gets the share of OOD."""
    return _average_precision(counts.ood_counts_below, counts.id_counts_below)


def detection_error(counts: Counts, minimum_id_recall: float = 0.0) -> float:
    """The least ½·(1 − TPR) + ½·FPR over the thresholds that keep at least `minimum_id_recall` of ID.

    TPR is the share of ID accepted, FPR the share of OOD accepted; accepting none and accepting all are among
    the thresholds, so the result is in [0, ½]. Defined by ODIN (arXiv 1706.02690), without a minimum; OODL
    (arXiv 1910.10307) chooses its layer by it with a minimum of 0.95.

    Raises:
        OodbenchError: `minimum_id_recall` is not in [0, 1].
    """
    if not 0 <= minimum_id_recall <= 1:
        raise OodbenchError(f"minimum_id_recall is {minimum_id_recall}; choose a share of ID from 0 to 1.")
    n_id, n_ood = counts.n_id, counts.n_ood
    # Shares are compared, as 55 / 100 == 0.55 holds in floating point and 55 == 0.55 * 100 does not.
    first = bisect.bisect_left(counts.id_counts, minimum_id_recall, key=lambda kept: kept / n_id)
    excess = counts.ood_counts[first:] * n_id - counts.id_counts[first:] * n_ood
    return float((n_id * n_ood + excess.min()) / (2 * n_id * n_ood))


METRICS: dict[str, Callable[[Counts], float]] = {
    "auroc": auroc,
    "fpr_at_95_id_recall": fpr_at_95_id_recall,
    "fpr_at_95_ood_recall": fpr_at_95_ood_recall,
    "aupr_in": aupr_in,
    "aupr_out": aupr_out,
    "detection_error": detection_error,
}
"""Every metric of a detector on a pair of sets, by name, in the order of the tables."""


def evaluate(
    id_scores: ArrayLike, ood_scores: ArrayLike, id_name: str = "ID", ood_name: str = "OOD"
) -> dict[str, float]:
    """All `METRICS` of (n,) ID and (m,) OOD scores, higher = more ID.

    Raises:
        OodbenchError: scores that are not finite, not one-dimensional, not numbers, or too few.
    """
    counts = Counts.of(id_scores, ood_scores, id_name, ood_name)
    return {name: metric(counts) for name, metric in METRICS.items()}


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The share of (N,) predicted class indices that equal the (N,) labels, in [0, 1].

    Raises:
        OodbenchError: not two equally long, non-empty, one-dimensional arrays of integers.
    """
    predicted, true = _as_array(predictions, "predictions"), _as_array(labels, "labels")
    if predicted.ndim != 1 or predicted.shape != true.shape or not len(predicted):
        raise OodbenchError(
            f"accuracy needs one prediction a label, and got shapes {predicted.shape} and {true.shape}."
        )
    if predicted.dtype.kind not in "iu" or true.dtype.kind not in "iu":
        raise OodbenchError(
            f"accuracy compares class indices, and got dtypes {predicted.dtype} and {true.dtype}; "
            "take the argmax of the logits."
        )
    return float(np.mean(predicted == true))
