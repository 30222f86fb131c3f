"""Images that a classifier is sure of although they are drawn compositions: what it takes for its classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion.compositions import draw_compositions
from oodbench.inversion.latents import invert_latents
from oodbench.inversion.settings import LatentSettings

CONFIDENCE = 0.9
"""What the classifier gives an image's class at least, once its pixels are rounded to 8 bits."""

SETTINGS = LatentSettings(steps=40, step_size=0.3, border=0.0)
"""Stronger than in training, and with grounds of any colour: no ID image is looked at."""

BATCH = 256
BATCHES = 40
"""Tried at most, for each 256 images that are wanted."""


def adversarial_images(classifier: Classifier, num_classes: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images that a classifier puts into a class with a confidence of 0.9 or more, and the confidences.

    Drawn compositions whose latents are moved until the classifier takes them for a class that was drawn for each.
    What does not get there is left out.

    Args:
        num_classes: K, the first outputs.
        seed: of all draws; on a CPU the same seed gives the same images bit for bit.

    Returns:
        uint8 N×C×H×W and float N, on the CPU.

    Raises:
        OodbenchError: too few images get there.
    """
    random = torch.Generator().manual_seed(seed)
    form = torch.zeros(1, *classifier.image_shape, dtype=torch.uint8)
    kept: list[Tensor] = []
    sure: list[Tensor] = []
    for _ in range(BATCHES * -(-count // BATCH)):
        targets = torch.randint(num_classes, (BATCH,), generator=random)
        drawn = draw_compositions(BATCH, form, SETTINGS, random, classifier.device)
        made = invert_latents(classifier, drawn, SETTINGS, random, targets, loss=_into_class)
        images = made.images.mul(255).round().to(torch.uint8)
        with classifier.inference(), torch.no_grad():
            logits = classifier(images.to(classifier.precision) / 255)[:, :num_classes]
        confidence = logits.double().softmax(dim=1).amax(dim=1)
        kept.append(images[confidence >= CONFIDENCE].cpu())
        sure.append(confidence[confidence >= CONFIDENCE].cpu())
        if sum(map(len, kept)) >= count:
            return torch.cat(kept)[:count], torch.cat(sure)[:count]
    raise OodbenchError(
        f"{classifier.name} was sure of {sum(map(len, kept))} of {BATCHES * BATCH} inverted images only, too few for a "
        f"set of {count}; give a smaller --limit, or leave the set out"
    )


def _into_class(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")
