"""The images that a detector got most wrong: which they are, and small pictures of them beside the card."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from oodbench.metrics import as_scores

WORST_FILE = "worst.npz"
WORST = 8
"""Images of each set that a detector is shown to have got most wrong."""

LONGEST_SIDE = 64
"""Pixels of a kept picture's longer side, at most."""


class Worst(NamedTuple):
    """Indices into the ID and the OOD set, the most wrong first; equal scores in the set's order."""

    id_images: NDArray[np.int64]
    ood_images: NDArray[np.int64]


class Pictures(NamedTuple):
    """Some images of a set: their (k,) indices, ascending, and uint8 pixels k×H×W×C (C is 1 or 3).

    And (k,) of what is known of each, None where an earlier oodbench kept the pictures: their labels, -1 where unknown;
    the classes that the classifier put them into; their files, empty where they have none of their own.
    """

    indices: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    answers: NDArray[np.int64] | None = None
    files: NDArray[np.str_] | None = None


def worst_images(id_scores: ArrayLike, ood_scores: ArrayLike, count: int = WORST) -> Worst:
    """The `count` ID images of lowest score and OOD images of highest score (fewer where the set is smaller).

    Raises:
        OodbenchError: bad scores (see `metrics.as_scores`).
    """
    rising = np.argsort(as_scores(id_scores, "ID"), kind="stable")[:count]
    falling = np.argsort(-as_scores(ood_scores, "OOD"), kind="stable")[:count]
    return Worst(rising, falling)


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """N×H×W×C pictures brought to at most LONGEST_SIDE pixels a side, in proportion; smaller ones stay."""
    height, width = pixels.shape[1:3]
    longest = max(height, width)
    if longest <= LONGEST_SIDE:
        return pixels
    size = (max(1, width * LONGEST_SIDE // longest), max(1, height * LONGEST_SIDE // longest))
    small = [np.asarray(as_image(one).resize(size, Image.Resampling.BILINEAR)) for one in pixels]
    return np.stack(small).reshape(len(pixels), size[1], size[0], pixels.shape[3])


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """An H×W×C array as a PIL image, grey or RGB."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
