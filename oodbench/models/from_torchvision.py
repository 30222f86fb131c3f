"""torchvision's classifiers by their names there, and the preprocess of torchvision's own weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torchvision.models
from torch import nn

from oodbench.data.preprocess import Preprocess
from oodbench.data.transform import of_preset
from oodbench.errors import OodbenchError, unknown_name
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


def published_preprocess(name: str, path: Path) -> Preprocess | None:
    """What belongs to a file, if it is one that torchvision publishes; else None.

    The published address ends in the first hex digits of the file's SHA-256, by which the file is known
    whatever it is called.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for weights in torchvision.models.get_model_weights(name):
        if digest.startswith(weights.url.rsplit("-", 1)[-1].split(".")[0]):
            return _of_weights(weights)
    return None


def named_preprocess(name: str) -> Preprocess:
    """What belongs to weights of torchvision by their name, `ResNet50_Weights.IMAGENET1K_V2`.

    Raises:
        OodbenchError: there are none, or they are not of a classifier.
    """
    known = [str(weights) for model in names() for weights in torchvision.models.get_model_weights(model)]
    try:
        found = _of_weights(torchvision.models.get_weight(name))
    except (ValueError, KeyError, AttributeError):
        found = None
    if found is None:
        raise unknown_name("preprocess", name, known, "of torchvision's classifiers, or timm:NAME")
    return found


def _of_weights(weights: Any) -> Preprocess | None:
    found = of_preset(weights.transforms())
    return found and replace(found, origin=f"as torchvision publishes it for {weights}")
