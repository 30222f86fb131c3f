"""The workload that pytorch-ood 0.4.0 was measured on: a ResNet-20 and images by the recipe of its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.models.load import load_classifier

SHARED = Path(__file__).parents[2].parent / "shared"
PEERS, DATA = SHARED / "peers", SHARED / "data"
FILES = {
    "id": "cifar10_test.npz",
    "fit": "cifar10_train.npz",
    "textures": "textures_32.npz",
    "scenes": "scenes_32.npz",
    "tinyimagenet": "tinyimagenet_32.npz",
    "mnist": "mnist_test.npz",
    "omniglot": "omniglot.npz",
}
OOD = ("textures", "scenes", "tinyimagenet", "mnist", "omniglot", "gaussian", "uniform")


def classifier() -> Classifier:
    weights = DATA / "weights" / "resnet20-12fca82f.th"
    return load_classifier(
        f"resnet20={weights}", num_classes=10, image_shape=(3, 32, 32), mean="imagenet", std="imagenet"
    )


def images(name: str) -> Tensor:
    """The workload's images, uint8 N×3×32×32."""
    if name == "gaussian":
        stored = np.rint(255 * np.clip(np.random.default_rng(3).normal(0.5, 1, (1000, 32, 32, 3)), 0, 1))
    elif name == "uniform":
        stored = np.rint(255 * np.random.default_rng(4).uniform(0, 1, (1000, 32, 32, 3)))
    else:
        with np.load(PEERS / "workload.npz") as workload, np.load(DATA / FILES[name]) as data:
            stored = data["images"][workload[f"idx_{name}"]]
    if stored.ndim == 3:
        grey = torch.from_numpy(stored).float()[:, None].expand(-1, 3, -1, -1)
        return F.interpolate(grey, size=32, mode="bilinear", antialias=True).round().to(torch.uint8)
    return torch.from_numpy(np.ascontiguousarray(stored.astype(np.uint8).transpose(0, 3, 1, 2)))


def sha256(name: str) -> str:
    """Of the images, as it was stored with them."""
    with np.load(PEERS / "workload.npz") as workload:
        known: dict[str, str] = json.loads(str(workload["sha256"]))
    return known[name]


def fit_labels() -> Tensor:
    with np.load(PEERS / "workload.npz") as workload:
        return torch.from_numpy(workload["fit_labels"])
