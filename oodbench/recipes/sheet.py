"""The picture that a training leaves beside its checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.inversion.compositions import draw_compositions
from oodbench.inversion.conditioning import seeded
from oodbench.inversion.latents import invert_latents
from oodbench.inversion.pictures import save_grid
from oodbench.inversion.settings import LatentSettings
from oodbench.models.checkpoint import load_checkpoint

CLASSES, PER_CLASS = 20, 10
"""Rows of a sheet of inversions at most, and images a row."""

STEPS = 40
"""Of its images at most: more than in training, so that the network takes them for classes."""


@dataclass(frozen=True)
class Sheet:
    """A picture that a training left: what it is of, in a word; what it shows, in a sentence; and the PNG."""

    name: str
    caption: str
    png: bytes


def save_sheet(classifier: Classifier, known: Tensor, seed: int, checkpoint: Path) -> bytes:
    """Leave a picture of inversions, moved further than in training, beside the checkpoint; returns the PNG.

    Args:
        classifier: with a garbage class.
        known: ID images, uint8 N×C×H×W.
    """
    rows = min(classifier.num_classes - 1, CLASSES)
    random, settings = seeded(seed, "garbage sheet"), LatentSettings(steps=STEPS)
    targets = torch.arange(rows).repeat(PER_CLASS)
    drawn = draw_compositions(len(targets), known, settings, random, classifier.device)
    images = invert_latents(classifier, drawn, settings, random, targets).images.cpu()
    by_class = images.unflatten(0, (PER_CLASS, rows)).transpose(0, 1).flatten(0, 1)
    save_grid(by_class.numpy(), _file(checkpoint), PER_CLASS, [str(number) for number in range(rows)])
    return _file(checkpoint).read_bytes()


def _file(checkpoint: Path) -> Path:
    return Path(f"{checkpoint}.png")


def kept_sheet(checkpoint: Path) -> Sheet | None:
    """The images that the network of a checkpoint was inverted to; None where the picture is not beside it."""
    path = _file(checkpoint)
    if not path.is_file():
        return None
    png = path.read_bytes()
    # It may be of another training that was begun under the same name.
    if hashlib.sha256(png).hexdigest() != load_checkpoint(checkpoint).record.get("sheet_sha256"):
        return None
    return Sheet("inversions", "images that the network itself was inverted to, one row a class", png)
