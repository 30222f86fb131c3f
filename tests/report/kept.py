"""Which pictures a run must keep, from whole arrays of scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from oodbench.report.worst import WORST, Worst, worst_images


def indices_to_keep(pairs: Iterable[tuple[ArrayLike, ArrayLike]], count: int = WORST) -> Worst:
    """What must be kept of an ID set and an OOD set so that the worst images of all detectors can be shown.

    Args:
        pairs: (ID scores, OOD scores) of each detector on these two sets.
    """
    worst = [worst_images(id_scores, ood_scores, count) for id_scores, ood_scores in pairs]
    return Worst(*(np.unique(np.concatenate(part)) for part in zip(*worst, strict=True)))
