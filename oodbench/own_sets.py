"""OOD sets that belong to one classifier: images that it was inverted to, made once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from oodbench.classifier import Classifier
from oodbench.data.catalogue import ADVERSARIAL
from oodbench.data.identity import identity_of
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.npz import read_npz
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write, cache_folder
from oodbench.inversion.adversarial import CONFIDENCE, SETTINGS, adversarial_images
from oodbench.progress import Reporter
from oodbench.store import address

MOST = 1000
"""Images of the set, at most."""

CODE = tuple(
    f"oodbench.{name}"
    for name in ("classifier", "inversion.adversarial", "inversion.compositions", "inversion.latents", "perturbation")
)


def inverted_set(
    name: str, classifier: Classifier, num_classes: int, count: int, seed: int, reporter: Reporter
) -> ImageSet:
    """Images that a classifier puts into a class with confidence, see `adversarial_images`; from the cache, or made.

    Args:
        count: how many, of which no more than 1,000 are made.

    Raises:
        OodbenchError: too few images get there.
    """
    count = min(count, MOST)
    code = identity_of(repr(SETTINGS), CODE, ("torch",))
    key = address("inverted", classifier.content_hash(), num_classes, count, seed, classifier.device.type, code)
    path = cache_folder() / "inverted" / f"{key[:24]}.npz"
    images = _kept(path, count) if code is not None else None
    if images is None:
        reporter.say(f"{name}: inverting {classifier.name} to {count:,} images; kept in {path}")
        made, _ = adversarial_images(classifier, num_classes, count, seed)
        images = made.permute(0, 2, 3, 1).numpy()
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, images=images)
    pixels = images[..., 0] if images.shape[3] == 1 else images
    confidence = _least_confidence(classifier, num_classes, images)
    note = f"put by {classifier.name} into a class with a confidence of {confidence:.3f} or more"
    origin = f"inversions of {classifier.name}, seed {seed}"
    return ImageSet(name, ArraySource(pixels), origin, None, ADVERSARIAL, (note,), prepared=True)


def _kept(path: Path, count: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        images = np.asarray(read_npz(path.stem, path).read(0, count))
    except OodbenchError:  # damaged: it is made anew
        return None
    return images if images.ndim == 4 else images[..., None]


def _least_confidence(classifier: Classifier, num_classes: int, images: np.ndarray) -> float:
    """Of the images as they are kept; less than it should be is an error, since a wrong file would mislead."""
    least = 1.0
    with classifier.inference(), torch.no_grad():
        for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(256):
            pixels = part.to(classifier.device, classifier.precision) / 255
            least = min(least, float(classifier(pixels)[:, :num_classes].double().softmax(dim=1).amax(dim=1).min()))
    if least < CONFIDENCE - 1e-3:
        raise OodbenchError(
            f"an image kept for {classifier.name} has a confidence of {least:.3f} only; clear the cache"
        )
    return least
