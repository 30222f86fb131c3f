"""Standardised fit outputs, for scikit-learn; apart from `fitting`, so that other detectors need not import it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from oodbench.detectors.fitting import ROWS, finite


def standardised(parts: Mapping[str, Tensor]) -> tuple[np.ndarray, StandardScaler]:
    """Fit outputs, N×D each, one below the other, to mean 0 and variance 1, float64, and how that was done.

    What does not vary keeps its scale. Beside the array itself nothing of its size is made.

    Args:
        parts: by what they are, for errors ("features").

    Raises:
        OodbenchError: see `finite`.
    """
    blocks = [block for what, tensor in parts.items() for block in finite(tensor, what).split(ROWS)]
    array = np.empty((sum(map(len, blocks)), blocks[0].shape[1]))
    for place, block in zip(np.split(array, np.cumsum([*map(len, blocks)])[:-1]), blocks, strict=True):
        place[:] = block.double().cpu().numpy()
    scaler = StandardScaler()
    for start in range(0, len(array), ROWS):
        scaler.partial_fit(array[start : start + ROWS])
    return scaler.transform(array, copy=False), scaler
