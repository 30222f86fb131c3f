"""Fixtures that several test files share: caches of their own, a tiny classifier, small image files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: where other processes have the cores too, threads that wait awake take minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from oodbench.classifier import Classifier

# A time limit per example would fail honest tests on a busy machine.
settings.register_profile("oodbench", deadline=None)
settings.load_profile("oodbench")

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's cache; what one test trains, the next finds."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OODBENCH_CACHE", str(folder))
        patch.delenv("OODBENCH_DATA", raising=False)
        yield folder


@pytest.fixture(autouse=True)
def own_cache(session_cache: Path) -> Iterator[Path]:
    """No test is served by what another one stored; classifiers apart, of which the training decides alone."""
    folder = Path(tempfile.mkdtemp(dir=session_cache))
    classifiers = session_cache / "classifiers"
    classifiers.mkdir(exist_ok=True)
    (folder / "classifiers").symlink_to(classifiers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OODBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture
def small_classifier() -> Classifier:
    """An untrained convolutional classifier of 8×8 grey images, 3 classes, with batch-norm and dropout."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    module(torch.rand(64, 1, 8, 8))
    return Classifier(
        module, num_classes=3, image_shape=(1, 8, 8), mean=0.4, std=0.3, name="small", layers=["2", "penultimate"]
    )


@pytest.fixture
def image_files(tmp_path: Path) -> dict[str, str]:
    """References of small npz files: an ID set of 3 classes with fit images, and two OOD sets."""
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 64).reshape(8, 8)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.sort(draw.integers(0, 3, count))
        turned = np.stack([np.rot90(ramp, int(label)) for label in labels])
        return np.clip(turned + draw.normal(0, 20, turned.shape), 0, 255).astype(np.uint8), labels

    for name, count in (("rot_train", 90), ("rot_test", 41)):
        pixels, labels = images(count)
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=labels)
    np.savez(tmp_path / "bright.npz", images=draw.integers(128, 256, (23, 8, 8)).astype(np.uint8))
    np.savez(tmp_path / "dark.npz", images=draw.integers(0, 90, (17, 12, 10, 3)).astype(np.uint8))
    return {
        "id": f"npz:{tmp_path / 'rot_test.npz'}",
        "bright": f"npz:{tmp_path / 'bright.npz'}",
        "dark": f"npz:{tmp_path / 'dark.npz'}",
    }
