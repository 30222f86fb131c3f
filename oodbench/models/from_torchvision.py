"""torchvision's classifiers by their names there, and the normalisation of torchvision's own weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torchvision.models
from torch import nn

from oodbench.errors import OodbenchError
from oodbench.models.catalogue import ImageShape


def names() -> list[str]:
    """All classifiers of the installed torchvision."""
    return list(torchvision.models.list_models(module=torchvision.models))


def build_torchvision(name: str, num_classes: int, image_shape: ImageShape) -> nn.Module:
    """An untrained classifier of torchvision.

    Raises:
        OodbenchError: the images are not RGB.
    """
    if image_shape[0] != 3:
        raise OodbenchError(f"torchvision's {name} takes images of 3 channels, not {image_shape[0]}")
    # Their own default is about to change, and they warn of it.
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    return network


def published_normalisation(name: str, path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation that belong to a file, if it is one that torchvision publishes; else None.

    The published address ends in the first hex digits of the file's SHA-256, by which the file is known
    whatever it is called.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for weights in torchvision.models.get_model_weights(name):
        if digest.startswith(weights.url.rsplit("-", 1)[-1].split(".")[0]):
            transform = weights.transforms()
            return tuple(transform.mean), tuple(transform.std)
    return None
