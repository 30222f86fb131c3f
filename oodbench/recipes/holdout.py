"""ID images that a recipe does not train on: what it is calibrated and reported on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.data.drawing import stratified
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm, brought
from oodbench.data.seeding import set_generator
from oodbench.pixels import to_unit
from oodbench.training import EVALUATION_BATCH

SHARE, MOST = 0.1, 5000
"""Held-out ID images: this share of the fit images, and no more than so many."""


def hold_out(fit: ImageSet, seed: int, share: float = SHARE) -> tuple[ImageSet, ImageSet]:
    """Labelled fit images that are held out, each class in its share, and those that remain; drawn by the seed."""
    count = min(MOST, max(1, round(share * len(fit))))
    assert fit.labels is not None  # in_memory refuses such sets, load_id too
    chosen = stratified(fit.labels, count, set_generator(seed, f"held out {fit.name}"))
    held = fit.subset(chosen, f"{count} held out with seed {seed}")
    kept = fit.subset(np.setdiff1d(np.arange(len(fit)), chosen), f"without {count} held out with seed {seed}")
    return held, kept


def garbage_shares(classifier: Classifier, kinds: Mapping[str, Tensor]) -> dict[str, float]:
    """By kind, the share of the images, uint8 N×C×H×W, whose largest logit is the last, that of garbage."""

    return {kind: share_of_last(torch.cat([*batches(classifier, images)])) for kind, images in kinds.items()}


def share_of_last(logits: Tensor) -> float:
    """The share of images, from their logits N×(K+1), whose largest is the last."""
    return float((logits.argmax(dim=1) == logits.shape[1] - 1).float().mean())


def matched(images: ImageSet, form: AnyForm) -> Tensor:
    """All images of a set in memory, in an input form."""
    return torch.cat([brought(images, chunk, form) for chunk in images.chunks()])


def batches(classifier: Classifier, images: Tensor) -> Iterator[Tensor]:
    """Logits on the CPU of uint8 images N×C×H×W, batch by batch."""
    with classifier.inference(), torch.no_grad():
        for batch in images.split(EVALUATION_BATCH):
            yield classifier(to_unit(batch, classifier.device)).cpu()
