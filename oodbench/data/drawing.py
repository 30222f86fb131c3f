"""Draws of labelled images in which every class has its share."""

from __future__ import annotations

import numpy as np


def stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` indices, sorted, each class in its share, ± 1: a systematic sample, class by class."""
    by_class = np.lexsort((generator.random(len(labels)), labels))
    return np.sort(by_class[((np.arange(count) + 0.5) * len(labels) / count).astype(np.int64)])


def by_class(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` indices, sorted: of each class its share by largest remainders, and one at least if `count` allows it.

    Args:
        labels: int N, sorted or not.
        count: at most N.
        generator: of the images within a class, and of which of equal remainders go first.
    """
    classes, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # In whole numbers: in floating point 5 may be 4.999….
    taken, remainders = np.divmod(sizes.astype(np.int64) * count, len(labels))
    if count >= len(classes):
        taken = np.maximum(taken, 1)
    # A class that was given one above its share has a remainder below zero, and gives first where too many are taken.
    remainders = sizes.astype(np.int64) * count - taken * len(labels)
    by_remainder = np.lexsort((generator.random(len(classes)), -remainders))
    missing = count - int(taken.sum())
    if missing >= 0:
        taken[by_remainder[:missing]] += 1
    for _ in range(-missing):
        most = int(np.argmax(np.where(taken > 1, taken * len(labels) - sizes * count, -np.inf)))
        taken[most] -= 1
    order = np.lexsort((generator.random(len(labels)), of_class))
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place < np.repeat(taken, sizes)])
