"""The architectures by name; reading this file does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from oodbench.errors import unknown_name

if TYPE_CHECKING:
    from torch import nn

ImageShape = tuple[int, int, int]

OWN = "this project"
HE = "He et al. 2016 (arXiv 1512.03385), section 4.2"
OPENOOD = "ResNet18_32x32 of OpenOOD (arXiv 2306.09301)"
TORCHVISION = "torchvision.models"


@dataclass(frozen=True)
class ModelEntry:
    """One architecture.

    Attributes:
        where: "module:callable" of what builds it from (num_classes, image_shape).
        image_shape: the (C, H, W) that it is made for; None where it takes images of any size.
        source: the paper or the project that it comes from.
        summary: one line for `list`.
    """

    name: str
    where: str
    image_shape: ImageShape | None
    source: str
    summary: str


_ENTRIES = (
    ModelEntry("cnn8", "oodbench.models.small:cnn8", (1, 8, 8), OWN, "4 convolutions, for 8×8 images (digits)"),
    ModelEntry("cnn28", "oodbench.models.small:cnn28", (1, 28, 28), OWN, "6 convolutions, for 28×28 images"),
    ModelEntry("cnn32", "oodbench.models.small:cnn32", (3, 32, 32), OWN, "6 convolutions, for 32×32 images"),
    *(
        ModelEntry(
            f"resnet{depth}",
            f"oodbench.models.resnet:resnet{depth}",
            None,
            HE,
            f"CIFAR ResNet of {depth} layers, shortcuts without weights (option A)",
        )
        for depth in (20, 32, 44, 56, 110)
    ),
    ModelEntry("resnet18-32", "oodbench.models.resnet:resnet18_32", None, OPENOOD, "ResNet-18 for 32×32 images"),
)

MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}


def find_model(name: str) -> ModelEntry:
    """The entry of an architecture of ours, or of one of torchvision's classifiers.

    Raises:
        OodbenchError: there is no such architecture.
    """
    if name in MODELS:
        return MODELS[name]
    # Only now: importing torchvision takes seconds.
    from oodbench.models.from_torchvision import names

    if name in names():
        where = f"torchvision.models:{name}"
        return ModelEntry(name, where, (3, 224, 224), TORCHVISION, "classifier of torchvision")
    hint = "and all classifiers of torchvision by their names there, e.g. resnet50"
    raise unknown_name("model", name, [*MODELS, *names()], hint)


def build(name: str, num_classes: int, image_shape: ImageShape) -> nn.Module:
    """An untrained network of an architecture, with K outputs, for images (C, H, W).

    Raises:
        OodbenchError: there is no such architecture, or it does not take such images.
    """
    entry = find_model(name)
    if entry.source == TORCHVISION:
        from oodbench.models.from_torchvision import build_torchvision

        return build_torchvision(name, num_classes, image_shape)
    module, function = entry.where.split(":")
    network: nn.Module = getattr(import_module(module), function)(num_classes, image_shape)
    return network
