"""Splits into images to fit on and images to test on, where a set comes with none."""

from __future__ import annotations

import numpy as np

from oodbench.data.drawing import stratified
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.seeding import set_generator

DIGITS_TEST = 600
"""Test images of the set digits; the other 1,197 are to fit on."""


def halves(images: ImageSet, labels: np.ndarray, seed: int) -> tuple[ImageSet, ImageSet]:
    """Two disjoint halves, drawn by the seed, with every class in both in its share (± 1 image)."""
    test = stratified(labels, len(images) // 2, set_generator(seed, f"halves {images.name}"))
    fit = np.setdiff1d(np.arange(len(images)), test)
    note = f"no split of its own: a stratified half to fit on and a half to test on, drawn with seed {seed}"
    return images.subset(fit, note), images.subset(test, note)


def load_digits(split: str) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8×8, from 0 … 16 to 0 … 255; the split is always the same."""
    from sklearn.datasets import load_digits as scikit_learn_digits

    bunch = scikit_learn_digits()
    images = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    test = stratified(labels, DIGITS_TEST, set_generator(0, "digits"))
    kept = test if split == "test" else np.setdiff1d(np.arange(len(labels)), test)
    return ImageSet("digits", ArraySource(images[kept]), f"scikit-learn's digits, {split} split", labels[kept])
