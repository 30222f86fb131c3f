"""A small classifier that can be inverted in a second or two."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.inversion.settings import InversionSettings, LossWeights
from tests.threads import one_thread as one_thread

COLUMNS = [
    "seed",
    "epochs",
    "max_inversion_accuracy",
    "final_inversion_accuracy",
    "epochs_to_0.8",
    "feature_cosine",
    "coverage",
    "within_class_cosine",
]
"""What a table of an ablation or a sweep says of a run."""

SMALL = InversionSettings(
    epochs=6, steps_per_epoch=10, batch_size=32, learning_rate=1e-2, noise_size=8, width=8, accuracy_images=200
)
"""Enough to invert `bars_classifier`."""


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy 8×8 images of three classes: the bright bar is at the top, in the middle or at the bottom."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=random)
    images = 0.3 * torch.rand(count, 1, 8, 8, generator=random)
    for number, label in enumerate(labels.tolist()):
        images[number, 0, 3 * label : 3 * label + 2] += 0.6
    return images, labels


@pytest.fixture(scope="session")
def bars_classifier() -> Classifier:
    """A trained classifier of `bars`, with batch normalisation and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((8, 1)),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64, 16),
            nn.ReLU(),
            nn.Linear(16, 3),
        )
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for step in range(60):
            images, labels = bars(64, step)
            optimiser.zero_grad()
            F.cross_entropy(module((images - 0.4) / 0.3), labels).backward()
            optimiser.step()
        optimiser.zero_grad()
    classifier = Classifier(module, num_classes=3, image_shape=(1, 8, 8), mean=0.4, std=0.3, name="bars")
    images, labels = bars(300, 999)
    with classifier.inference(), torch.no_grad():
        assert (classifier(images).argmax(dim=1) == labels).float().mean() > 0.98
    return classifier


@pytest.fixture
def small_settings() -> InversionSettings:
    """Those, with weights by which images differ less."""
    return replace(SMALL, weights=LossWeights(cross_entropy=10, kl=0.1, cosine=1, orthogonality=1))
