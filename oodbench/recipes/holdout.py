"""What a recipe may choose by: held-out ID images, them altered, and noise that it does not train on. No OOD set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.matching import ImageShape, match
from oodbench.data.noise import derived_set, noise_set
from oodbench.data.seeding import set_generator
from oodbench.data.splits import stratified
from oodbench.detectors.inversion import log_uncertainty
from oodbench.training import EVALUATION_BATCH, Pixels, in_memory, to_unit

HELD_OUT_NOISE = ("uniform", "rademacher", "blobs")
HELD_OUT_DERIVED = ("pixel-shuffled", "patch-shuffled", "fourier-phase-scrambled")
"""Made from held-out ID images."""

SHARE, MOST = 0.1, 2000
"""Held-out ID images: this share of the fit images, and no more than so many."""

NOISE_IMAGES = 500
"""Of each kind, at most."""

NOISE_SEED = 1_000_000_007
"""Added to the seed, so that no image of noise here is one of a benchmark, whose seeds are small."""


@dataclass(frozen=True)
class Holdout:
    """
    Attributes:
        known: ID images that are not trained on.
        noise, altered: by kind, uint8 N×C×H×W.
    """

    known: Pixels
    noise: dict[str, Tensor]
    altered: dict[str, Tensor]


def garbage_shares(classifier: Classifier, garbage_class: int, kinds: Mapping[str, Tensor]) -> dict[str, float]:
    """By kind, the share of the images whose largest logit is that of garbage."""
    shares = {}
    for kind, images in kinds.items():
        into = sum(int((logits.argmax(dim=1) == garbage_class).sum()) for logits in _logits(classifier, images))
        shares[kind] = into / len(images)
    return shares


def hold_out(fit: ImageSet, num_classes: int, image_shape: ImageShape, seed: int) -> tuple[Holdout, ImageSet]:
    """The holdout of labelled fit images, and the images that remain to be trained on; drawn by the seed."""
    count = min(MOST, max(1, round(SHARE * len(fit))))
    assert fit.labels is not None  # in_memory refuses such sets, load_id too
    chosen = stratified(fit.labels, count, set_generator(seed, f"held out {fit.name}"))
    held = fit.subset(chosen, f"{count} held out with seed {seed}")
    kept = fit.subset(np.setdiff1d(np.arange(len(fit)), chosen), f"without {count} held out with seed {seed}")
    images = min(NOISE_IMAGES, count)
    noise = {
        kind: matched(noise_set(kind, NOISE_IMAGES, image_shape, seed + NOISE_SEED), image_shape)
        for kind in HELD_OUT_NOISE
    } | {
        kind: matched(derived_set(kind, held.drawn(images, seed), seed + NOISE_SEED), image_shape)
        for kind in HELD_OUT_DERIVED
    }
    known = in_memory(held, num_classes, image_shape)
    drawn = Pixels(known.images[:NOISE_IMAGES], known.labels[:NOISE_IMAGES])
    return Holdout(known, noise, {kind: alter(drawn) for kind, alter in ALTERED.items()}), kept


def _blended(known: Pixels) -> Tensor:
    """The mean of each image and one of another class."""
    order = known.labels.argsort(stable=True)
    first, second = order, order.roll(len(order) // 2)
    apart = known.labels[first] != known.labels[second]
    return ((known.images[first[apart]].int() + known.images[second[apart]].int()) // 2).to(torch.uint8)


def _zoomed(images: Tensor) -> Tensor:
    """The middle of each image, enlarged twofold."""
    height, width = images.shape[2:]
    top, left = height // 4, width // 4
    middle = images[:, :, top : top + height // 2, left : left + width // 2]
    return F.interpolate(middle.float(), (height, width), mode="bilinear").round().to(torch.uint8)


def matched(images: ImageSet, image_shape: ImageShape) -> Tensor:
    """All images of a set in memory, in the form (C, H, W)."""
    return torch.cat([match(chunk, image_shape) for chunk in images.chunks()])


def mean_uncertainty(classifier: Classifier, images: Tensor) -> float:
    """Mean UE (arXiv 2505.23448) of the classifier's outputs for uint8 images, in [0, 1]."""
    return sum(float(log_uncertainty(logits).exp().sum()) for logits in _logits(classifier, images)) / len(images)


def _logits(classifier: Classifier, images: Tensor) -> Iterator[Tensor]:
    with classifier.inference(), torch.no_grad():
        for batch in images.split(EVALUATION_BATCH):
            yield classifier(to_unit(batch, classifier.device))


def _quarters_swapped(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    return images.roll((height // 2, width // 2), dims=(2, 3))


ALTERED: Mapping[str, Callable[[Pixels], Tensor]] = {
    "blended": _blended,
    "zoomed": lambda known: _zoomed(known.images),
    "quarters-swapped": lambda known: _quarters_swapped(known.images),
}
"""What is made of held-out ID images, of no class but nearer to them than noise is."""
