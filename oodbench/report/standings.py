"""Who is best in a column, and who is not significantly worse: for every metric, on a set or in a mean over sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oodbench.report.runs import Measurement
from oodbench.statistics import Influence, auroc_influence, delong_test, fpr_influence, holm, paired_test

if TYPE_CHECKING:
    from oodbench.report.comparison import Mean, Row

SIGNIFICANCE = 0.05
"""A detector is worse than the best if Holm's corrected p-value is at most this."""

BEST, TIED = "best", "tied"

LOWER_IS_BETTER = ("fpr_at_95_id_recall", "fpr_at_95_ood_recall", "detection_error")
"""The metrics of which less is better; of all others more is."""

Scores = NDArray[np.float64]

INFLUENCES: dict[str, Callable[[Scores, Scores], Influence]] = {
    "auroc": auroc_influence,
    "fpr_at_95_id_recall": fpr_influence,
    "fpr_at_95_ood_recall": lambda ids, oods: _swapped(fpr_influence(-oods, -ids)),
}
"""The metrics of which differences can be tested."""


class Standing(NamedTuple):
    """Of a detector in a contest: "best", "tied" (not significantly worse than the best) or ""; p_value is of being as
    good as the best, Holm-corrected, and None for the best itself."""

    mark: str
    p_value: float | None


def _judged(values: Sequence[float], worse: Callable[[int, int], Sequence[float]]) -> list[Standing]:
    """The standings of a contest in which the highest value wins.

    Args:
        worse: (best, other) → on each repeat, the p-value of "the other is worse"; over repeats they are averaged
            and doubled, which is valid however the repeats depend on one another (Rüschendorf 1982; Vovk & Wang 2020,
            Biometrika 107), as they do, sharing their images. With one repeat that is the two-sided test.
    """
    best = int(np.argmax(values))
    # All that reach the maximum are best, and need no test.
    losers = [place for place, value in enumerate(values) if value < max(values)]
    raw = [min(1.0, 2 * float(np.mean(worse(best, loser)))) for loser in losers]
    p_values = dict(zip(losers, holm(raw).tolist(), strict=True))
    found = [p_values.get(place) for place in range(len(values))]
    return [Standing(BEST if p is None else TIED if p > SIGNIFICANCE else "", p) for p in found]


def standings(entries: Mapping[str, Row | Mean], metric: str) -> dict[str, Standing]:
    """Of each detector in one column: all on one set, or all in the mean over the same sets; controls take no part.

    This alone decides, whatever a table is written in. AUROC and both FPR@95 are tested, paired by image; of other
    metrics the best alone is marked.
    """
    contest = {name: entry for name, entry in entries.items() if not entry.first.control} or dict(entries)
    if not contest:
        return {}
    names, found = list(contest), list(contest.values())
    sign = -1 if metric in LOWER_IS_BETTER else 1
    estimates = [entry.figures.get(metric) for entry in found]
    values = [-np.inf if one is None else sign * one.value for one in estimates]

    def worse(best: int, other: int) -> list[float]:
        if metric not in INFLUENCES:
            return [0.0]
        pairs = zip(_repeats(found[best]), _repeats(found[other]), strict=True)
        return [_p_worse(*pair, metric, sign) for pair in pairs]

    return dict(zip(names, _judged(values, worse), strict=True))


def _p_worse(best: Sequence[Measurement], other: Sequence[Measurement], metric: str, sign: int) -> float:
    """The one-sided p-value of "the other is worse", of measurements on the same sets."""
    if metric == "auroc" and len(best) == 1:
        (a,), (b,) = best, other
        test = delong_test(a.id_scores, a.ood_scores, b.id_scores, b.ood_scores)
    else:
        test = paired_test(*([_influence(one, metric) for one in of] for of in (best, other)))
    return test.p_value / 2 if sign * test.difference > 0 else 1 - test.p_value / 2


@lru_cache(maxsize=64)
def _influence(one: Measurement, metric: str) -> Influence:
    """Kept, as the best is compared with all others."""
    return INFLUENCES[metric](one.id_scores, one.ood_scores)


def _repeats(entry: Row | Mean) -> list[tuple[Measurement, ...]]:
    """The measurements on the sets, repeat by repeat."""
    return list(zip(*(row.repeats for row in entry.rows), strict=True))


def _swapped(influence: Influence) -> Influence:
    """With the roles of ID and OOD exchanged, so that ID comes first again."""
    return Influence(influence.value, influence.ood_part, influence.id_part)
