"""A small ID set, and garbage training that takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.inversion.settings import LatentSettings
from oodbench.progress import Reporter
from oodbench.recipes.garbage import GarbageReport, train_garbage
from oodbench.recipes.settings import GarbageSettings
from oodbench.training import TrainingSettings
from tests.threads import one_thread as one_thread

QUICK = GarbageSettings(
    TrainingSettings(epochs=3, batch_size=32, learning_rate=0.05), LatentSettings(steps=2, images=16), every=2
)


def turned_ramps(count: int, seed: int) -> ImageSet:
    """Three classes: a grey ramp, 8×8, turned by 0, 90 and 180 degrees, with noise."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    ramp = np.linspace(0, 255, 64).reshape(8, 8)
    images = np.stack([np.rot90(ramp, int(label)) for label in labels]) + draw.normal(0, 20, (count, 8, 8))
    return ImageSet("ramps", ArraySource(np.clip(images, 0, 255).astype(np.uint8)), "made by a test", labels)


def quick_training(
    checkpoint: Path, settings: GarbageSettings = QUICK, reporter: Reporter | None = None, **changes: Any
) -> GarbageReport:
    given: dict[str, Any] = {"fit": turned_ramps(90, 0), "test": turned_ramps(30, 1)} | changes
    return train_garbage(
        "cnn8",
        **given,
        num_classes=3,
        form=(1, 8, 8),
        settings=settings,
        checkpoint=checkpoint,
        reporter=reporter or Reporter(),
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "own.safetensors"
