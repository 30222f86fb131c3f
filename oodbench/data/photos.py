"""Windows of the two photographs that scikit-learn ships: natural images that need no download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from oodbench.data.imageset import GeneratedSource, ImageSet
from oodbench.data.matching import match
from oodbench.data.noise import stored_shape
from oodbench.data.seeding import image_generator

PHOTOGRAPHS = ("china.jpg", "flower.jpg")

SIDES = (48, 300)
"""The smallest and the largest window, in pixels of the photographs, which are 427×640."""


@cache
def _photograph(name: str) -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return load_sample_image(name)


@dataclass(frozen=True)
class Window:
    """Makes image `index`: a square of one photograph, its place and side from the image's own generator."""

    seed: int
    shape: tuple[int, int, int]

    def __call__(self, index: int) -> np.ndarray:
        generator = image_generator(self.seed, "photos", index)
        photograph = _photograph(PHOTOGRAPHS[generator.integers(len(PHOTOGRAPHS))])
        # A window smaller than the image made of it would only be a blur.
        smallest = min(max(SIDES[0], *self.shape[1:]), SIDES[1])
        side = int(generator.integers(smallest, SIDES[1] + 1))
        top = generator.integers(photograph.shape[0] - side + 1)
        left = generator.integers(photograph.shape[1] - side + 1)
        window = match(photograph[None, top : top + side, left : left + side], self.shape)[0].numpy()
        return window[0] if self.shape[0] == 1 else window.transpose(1, 2, 0)


def photos_set(count: int, shape: tuple[int, int, int], seed: int) -> ImageSet:
    """`count` square windows of scikit-learn's two photographs, brought to `shape` as `matching.match` does.

    Args:
        count: how many images; those of a smaller count are the first of a larger one.
        shape: (C, H, W), C = 1 gives grey H×W images and C = 3 RGB H×W×3.
        seed: of the whole run; image i depends on (seed, i) and the shape alone.

    Raises:
        OodbenchError: a form or count that cannot be made.
    """
    stored_shape("photos", count, shape)
    return ImageSet(
        "photos",
        GeneratedSource(Window(seed, shape), count),
        f"windows of scikit-learn's {' and '.join(PHOTOGRAPHS)}, {SIDES[0]}–{SIDES[1]} pixels, seed {seed}",
        group="structured",
        prepared=True,
        notes=("windows of only two photographs, which overlap: they say less than as many photographs would",),
    )
