"""How far a metric can be trusted: intervals for AUROC and FPR@95, a paired test, Holm's correction.

Images are the sampling units: intervals say what other images from the same sets would change, not other
training runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oodbench.errors import OodbenchError
from oodbench.metrics import as_scores, needed_for_recall

NO_VARIANCE = 1e-24
"""Variances of shares up to this are rounding."""


class Interval(NamedTuple):
    """A confidence interval within [0, 1]."""

    low: float
    high: float


class DelongTest(NamedTuple):
    """AUROC of the first detector minus that of the second, and the two-sided p-value of no difference."""

    difference: float
    p_value: float


def delong_interval(id_scores: ArrayLike, ood_scores: ArrayLike, confidence: float = 0.95) -> Interval:
    """DeLong's interval for the AUROC of (n,) ID and (m,) OOD scores, on the logit scale, so within [0, 1].

    The variance comes from midranks in O((n+m)·log(n+m)) (Sun & Xu 2014, IEEE Signal Processing Letters
    21(11)). It is zero exactly where the AUROC is 0 or 1, or all scores are equal (AUROC ½), and DeLong's
    interval would then be a point. There the interval is [a·L, 1 − (1−a)·L], with a the AUROC, L =
    ((1−confidence)/2)^(1/k) and k = min(n, m): the outcome needs k disjoint (ID, OOD) pairs that all fall the
    same way, which has probability at most q^k for pairs that do so with probability q. For a = 1 that is the
    Clopper–Pearson bound for k successes in k trials: conservative, as it can be wider than the interval of
    an AUROC just below 1.

    Raises:
        OodbenchError: bad scores (see `Counts.of`), or `confidence` not between 0 and 1 (exclusive).
    """
    tail = _tail(confidence)
    id_wins, ood_losses = _pairs_won(as_scores(id_scores, "ID"), as_scores(ood_scores, "OOD"))
    area = float(id_wins.mean() / len(ood_losses))
    variance = _variance(id_wins, ood_losses)
    if variance == 0:
        return _interval_without_variance(area, min(len(id_wins), len(ood_losses)), tail)
    half_width = -NormalDist().inv_cdf(tail) * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    return Interval(*(1 / (1 + math.exp(-(middle + end))) for end in (-half_width, half_width)))


def delong_test(
    id_scores_a: ArrayLike, ood_scores_a: ArrayLike, id_scores_b: ArrayLike, ood_scores_b: ArrayLike
) -> DelongTest:
    """Do detectors a and b differ in AUROC on the same images? DeLong's paired test, two-sided.

    The scores are (n,) and (n,) of the same ID images in one order, (m,) and (m,) of the same OOD images. The
    variance of the difference holds the covariance of the two (DeLong et al. 1988; midranks as in Sun & Xu
    2014). Where that variance is zero (perfect against inverted, say) there is no normal approximation: p is
    1 for no difference, and else Hoeffding's bound min(1, 2·exp(−k·difference²/2)), k = min(n, m), which
    holds for any scores (Hoeffding 1963, JASA 58, section 5b).

    Raises:
        OodbenchError: bad scores (see `Counts.of`), or the detectors did not score equally many images.
    """
    id_a, ood_a = as_scores(id_scores_a, "detector a, ID"), as_scores(ood_scores_a, "detector a, OOD")
    id_b, ood_b = as_scores(id_scores_b, "detector b, ID"), as_scores(ood_scores_b, "detector b, OOD")
    if len(id_a) != len(id_b) or len(ood_a) != len(ood_b):
        raise OodbenchError(
            f"a paired test needs the same images: detector a scored {len(id_a)} ID and {len(ood_a)} OOD, "
            f"detector b {len(id_b)} and {len(ood_b)}; score both on the same sets."
        )
    wins_a, losses_a = _pairs_won(id_a, ood_a)
    wins_b, losses_b = _pairs_won(id_b, ood_b)
    id_differences, ood_differences = wins_a - wins_b, losses_a - losses_b
    difference = float(id_differences.mean() / len(ood_a))
    variance = _variance(id_differences, ood_differences)
    if variance > 0:
        return DelongTest(difference, math.erfc(abs(difference) / math.sqrt(2 * variance)))
    bound = 2 * np.exp(-min(len(id_a), len(ood_a)) * difference**2 / 2)
    return DelongTest(difference, float(min(1.0, bound)))


def bootstrap_fpr_interval(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    confidence: float = 0.95,
    replicates: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of both FPR@95, keyed `fpr_at_95_id_recall` and `fpr_at_95_ood_recall`.

    Stratified: (n,) ID and (m,) OOD scores are resampled apart, so n and m stay. No resample is built, as its
    distribution is known: the k-th largest of n draws with replacement is the ⌈n·B⌉-th largest score, with B
    ~ Beta(k, n−k+1) the k-th order statistic of n uniforms; and the draws of the other class that pass this
    threshold are Binomial. So a replicate costs two random numbers, and is exactly a replicate of the usual
    bootstrap. An FPR of 0 or 1 is extended by the Clopper–Pearson bound at that threshold, as resampling
    alone could claim certainty.

    Raises:
        OodbenchError: bad scores (see `Counts.of`), `confidence` not between 0 and 1, `replicates` < 1.
    """
    tail = _tail(confidence)
    if replicates < 1:
        raise OodbenchError(f"replicates is {replicates}; a bootstrap needs at least 1, better 1000.")
    id_array, ood_array = as_scores(id_scores, "ID"), as_scores(ood_scores, "OOD")
    id_generator, ood_generator = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    return {
        "fpr_at_95_id_recall": _fpr_interval(id_array, ood_array, tail, replicates, id_generator),
        "fpr_at_95_ood_recall": _fpr_interval(-ood_array, -id_array, tail, replicates, ood_generator),
    }


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction of (K,) p-values: reject those <= α to hold the family-wise error at α.

    The i-th smallest (from 0) becomes the running maximum of (K−i)·p, at most 1, and the order of the values
    is kept (Holm 1979, Scandinavian Journal of Statistics 6).

    Raises:
        OodbenchError: not one-dimensional, or a value that is not in [0, 1].
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1 or not np.all((raw >= 0) & (raw <= 1)):
        raise OodbenchError(f"Holm's correction needs a list of p-values from 0 to 1, and got {raw}.")
    order = np.argsort(raw)
    corrected = np.empty_like(raw)
    corrected[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    return np.minimum(corrected, 1.0)


def _tail(confidence: float) -> float:
    """The probability that each end of a two-sided interval leaves out."""
    if not 0 < confidence < 1:
        raise OodbenchError(f"confidence is {confidence}; choose a share between 0 and 1, such as 0.95.")
    return (1 - confidence) / 2


def _interval_without_variance(value: float, trials: int, tail: float) -> Interval:
    """The interval of a share whose `trials` all fell alike (see `delong_interval`)."""
    least = tail ** (1 / trials)
    return Interval(value * least, 1 - (1 - value) * least)


def _pairs_won(
    id_scores: NDArray[np.float64], ood_scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) OOD scores below each ID score and (m,) ID scores above each OOD score, ties counted half.

    They are DeLong's structural components times m and n, kept as whole and half numbers: their sums are
    exact, so that a variance of zero comes out as zero.
    """
    n = len(id_scores)
    pooled = midranks(np.concatenate([id_scores, ood_scores]))
    return pooled[:n] - midranks(id_scores), n - (pooled[n:] - midranks(ood_scores))


def midranks(values: ArrayLike) -> NDArray[np.float64]:
    """The rank of each of N values, from 1 for the least; equal ones share the mean of their ranks.

    As `scipy.stats.rankdata`, which a run would wait for half a second to import.
    """
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks


def _variance(id_component: NDArray[np.float64], ood_component: NDArray[np.float64]) -> float:
    """DeLong's variance of an AUROC, or of a difference of two, from its components in pairs."""
    n, m = len(id_component), len(ood_component)
    return float(np.var(id_component, ddof=1) / (n * m**2) + np.var(ood_component, ddof=1) / (m * n**2))


def _fpr_interval(
    positives: NDArray[np.float64],
    negatives: NDArray[np.float64],
    tail: float,
    replicates: int,
    generator: np.random.Generator,
) -> Interval:
    """The bootstrap interval of the share of negatives that pass where 95 % of the positives do."""
    n, m = len(positives), len(negatives)
    needed = needed_for_recall(n)
    descending, ascending = -np.sort(-positives), np.sort(negatives)

    def accepted(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        return m - np.searchsorted(ascending, descending[ranks - 1], side="left")

    ranks = np.ceil(n * generator.beta(needed, n - needed + 1, replicates)).astype(np.int64)
    rates = generator.binomial(m, accepted(np.maximum(ranks, 1)) / m) / m
    low, high = (float(end) for end in np.quantile(rates, [tail, 1 - tail]))
    observed = float(accepted(np.array([needed]))[0] / m)
    if observed in (0.0, 1.0):
        bound = _interval_without_variance(observed, m, tail)
        return Interval(min(low, bound.low), max(high, bound.high))
    return Interval(low, high)


class Influence(NamedTuple):
    """A figure and what each image contributes to it: (n,) of ID and (m,) of OOD images, up to a constant.

    The figure varies as the mean of the ID part plus the mean of the OOD part do, if images are drawn anew.
    """

    value: float
    id_part: NDArray[np.float64]
    ood_part: NDArray[np.float64]


def auroc_influence(id_scores: ArrayLike, ood_scores: ArrayLike) -> Influence:
    """DeLong's structural components of the AUROC of (n,) ID and (m,) OOD scores (DeLong et al. 1988).

    Raises:
        OodbenchError: bad scores (see `Counts.of`).
    """
    ids, oods = as_scores(id_scores, "ID"), as_scores(ood_scores, "OOD")
    id_part, ood_part = _share_below(ids, oods), 1 - _share_below(oods, ids)
    return Influence(float(id_part.mean()), id_part, ood_part)


def fpr_influence(id_scores: ArrayLike, ood_scores: ArrayLike) -> Influence:
    """Of the share of OOD accepted where 95 % of ID is kept, of (n,) ID and (m,) OOD scores.

    An OOD image counts if it is accepted. ID images move the threshold: if more of them lie above it, it falls and
    the share rises along the ROC curve, by the curve's slope there (Pepe 2003, section 5.2). The slope is that between
    recalls h below and above 95 %, with h by Hall & Sheather 1988 (JRSS B 50), as for the variance of any quantile.
    For `fpr_at_95_ood_recall` pass (−OOD scores, −ID scores): then the parts change places.

    Raises:
        OodbenchError: bad scores (see `Counts.of`).
    """
    ids, oods = as_scores(id_scores, "ID"), as_scores(ood_scores, "OOD")
    n, m = len(ids), len(oods)
    descending, ascending = -np.sort(-ids), np.sort(oods)

    def accepted(needed: int) -> float:
        threshold = descending[min(max(needed, 1), n) - 1]
        return (m - int(np.searchsorted(ascending, threshold, side="left"))) / m

    needed = needed_for_recall(n)
    half = max(1, min(round(n * _bandwidth(n)), n - needed))
    below, above = max(needed - half, 1), min(needed + half, n)
    slope = n * (accepted(above) - accepted(below)) / max(above - below, 1)
    threshold = descending[needed - 1]
    return Influence(accepted(needed), -slope * (ids >= threshold), (oods >= threshold).astype(np.float64))


def _bandwidth(n: int) -> float:
    """Hall & Sheather's bandwidth for the slope at the 95 % quantile of n values, for intervals at 95 %."""
    normal = NormalDist()
    at = normal.inv_cdf(needed_for_recall(100) / 100)
    curvature = 1.5 * normal.pdf(at) ** 2 / (2 * at**2 + 1)
    return float(n ** (-1 / 3) * normal.inv_cdf(0.975) ** (2 / 3) * curvature ** (1 / 3))


def paired_test(a: Sequence[Influence], b: Sequence[Influence]) -> DelongTest:
    """Do detectors a and b differ in the mean of a figure over S sets that share their ID images? Two-sided.

    The figures' influences are of the same images in one order, a set each. For the AUROC on one set this is
    `delong_test`. Where no image tells the two apart in variance, p is 1 for no difference, and else Hoeffding's bound
    with the smallest number of images, as there.
    """
    difference = float(np.mean([one.value - other.value for one, other in zip(a, b, strict=True)]))
    id_part = np.mean([one.id_part - other.id_part for one, other in zip(a, b, strict=True)], axis=0)
    ood_parts = [one.ood_part - other.ood_part for one, other in zip(a, b, strict=True)]
    variance = np.var(id_part, ddof=1) / len(id_part)
    variance += sum(np.var(part, ddof=1) / len(part) for part in ood_parts) / len(ood_parts) ** 2
    if variance > NO_VARIANCE:
        return DelongTest(difference, math.erfc(abs(difference) / math.sqrt(2 * float(variance))))
    least = min(len(id_part), *map(len, ood_parts))
    return DelongTest(difference, min(1.0, 2 * math.exp(-least * difference**2 / 2)))


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) shares of the (m,) others that lie below each value, equal ones counted half."""
    ascending = np.sort(others)
    sides = [np.searchsorted(ascending, values, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / (2 * len(others))
