"""Untrained classifiers and their checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from oodbench.classifier import Classifier
from oodbench.models.catalogue import build
from oodbench.models.checkpoint import save_checkpoint

Shape = tuple[int, int, int]


@pytest.fixture
def make_classifier() -> Callable[..., Classifier]:
    """A classifier of an architecture whose BatchNorm layers have seen data."""

    def make(name: str = "cnn8", classes: int = 10, shape: Shape = (1, 8, 8), mean: float = 0.3) -> Classifier:
        torch.manual_seed(1)
        module = build(name, classes, shape)
        module(torch.randn(16, *shape))
        return Classifier(module.eval(), num_classes=classes, image_shape=shape, mean=mean, std=0.25, name=name)

    return make


@pytest.fixture
def own_checkpoint(make_classifier: Callable[..., Classifier], tmp_path: Path) -> Path:
    """A checkpoint of ours: cnn8, 10 classes, 1×8×8, mean 0.3, std 0.25."""
    path = tmp_path / "own.safetensors"
    save_checkpoint(make_classifier(), "cnn8", path, {"id": "digits", "accuracy": 0.5})
    return path
