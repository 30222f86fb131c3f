"""ID images that a recipe does not train on: what it is calibrated and reported on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.data.drawing import stratified
from oodbench.data.imageset import ImageSet
from oodbench.data.matching import ImageShape, match
from oodbench.data.seeding import set_generator
from oodbench.pixels import to_unit
from oodbench.training import EVALUATION_BATCH

SHARE, MOST = 0.1, 5000
"""Held-out ID images: this share of the fit images, and no more than so many."""


def hold_out(fit: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Labelled fit images that are held out, each class in its share, and those that remain; drawn by the seed."""
    count = min(MOST, max(1, round(SHARE * len(fit))))
    assert fit.labels is not None  # in_memory refuses such sets, load_id too
    chosen = stratified(fit.labels, count, set_generator(seed, f"held out {fit.name}"))
    held = fit.subset(chosen, f"{count} held out with seed {seed}")
    kept = fit.subset(np.setdiff1d(np.arange(len(fit)), chosen), f"without {count} held out with seed {seed}")
    return held, kept


def garbage_shares(classifier: Classifier, kinds: Mapping[str, Tensor]) -> dict[str, float]:
    """By kind, the share of the images, uint8 N×C×H×W, whose largest logit is the last, that of garbage."""

    def share(images: Tensor) -> float:
        classes = torch.cat([logits.argmax(dim=1) for logits in batches(classifier, images)])
        return float((classes == classifier.num_classes - 1).float().mean())

    return {kind: share(images) for kind, images in kinds.items()}


def matched(images: ImageSet, image_shape: ImageShape) -> Tensor:
    """All images of a set in memory, in the form (C, H, W)."""
    return torch.cat([match(chunk, image_shape) for chunk in images.chunks()])


def batches(classifier: Classifier, images: Tensor) -> Iterator[Tensor]:
    """Logits on the CPU of uint8 images N×C×H×W, batch by batch."""
    with classifier.inference(), torch.no_grad():
        for batch in images.split(EVALUATION_BATCH):
            yield classifier(to_unit(batch, classifier.device)).cpu()
