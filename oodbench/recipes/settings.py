"""How a classifier with a garbage class is trained: its settings, and their defaults by ID set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from oodbench.inversion.settings import LatentSettings
from oodbench.parameters import check_parameters, parameter
from oodbench.training import TrainingSettings, default_settings

NATURAL_ALLOWED = 0.03
"""Share of ID images that garbage may take where they are natural images: what is in them lies among the rest."""

FINETUNING_STEPS, FINETUNING_BATCH = 400, 96
"""Steps that fine-tuning takes at least, and ID images of each."""

By = Literal["latents", "generator"]
Output = Literal["learned", "constant"]


@dataclass(frozen=True)
class GarbageSettings:
    """How a classifier with a garbage class is trained.

    Attributes:
        training: of the whole network; the seed is that of everything.
        inversion: how it is inverted meanwhile.

    Raises:
        OodbenchError: a value is out of its range.
    """

    training: TrainingSettings = field(default_factory=TrainingSettings)
    inversion: LatentSettings = field(default_factory=LatentSettings)
    by: By = parameter("latents", "Maker of inversions: latents moved directly, or a conditional generator of them.")
    output: Output = parameter("learned", "Garbage logit: learned, or a constant that is calibrated.")
    every: int = parameter(30, "Training steps from one inversion to the next.", low=1, high=1_000_000)
    share: float = parameter(0.25, "Garbage images of a batch, as a share of its ID images.", low=0.001, high=100)
    noise: float = parameter(0.2, "Share of these that are Gaussian noise.", low=0, high=1)
    uncertainty: float = parameter(
        0.0, "Least uncertainty, 1 that of a guess, at which an inversion joins; 0 lets all join.", low=0, high=1
    )
    most: int = parameter(20_000, "Inversions that are kept at most, thinned out at random.", low=1, high=100_000_000)
    weight: float = parameter(
        0.4, "Weight of the mean loss of garbage images; that of ID images has 1.", low=0, high=1000
    )
    allowed: float = parameter(
        0.003, "Share of ID images that garbage may take, by which it is calibrated.", low=0, high=0.999
    )
    confidence: float = parameter(
        0.95, "Confidence that no larger share of ID images is taken.", low=0.5, high=0.999999
    )
    tolerance: float = parameter(0.01, "Accuracy on held-out images that fine-tuning may cost.", low=0, high=1)

    def __post_init__(self) -> None:
        check_parameters(self)


def default_garbage_settings(id_name: str, architecture: str) -> GarbageSettings:
    """The settings for an architecture on an ID set, where the user gives none."""
    training = default_settings(id_name, architecture)
    rate = 0.8 * training.learning_rate
    if id_name == "digits":
        # So few images that more passes cost nothing, and that an inversion must come oftener.
        return GarbageSettings(replace(training, learning_rate=rate), LatentSettings(images=96), every=20)
    if training.augment:
        # Natural images: see results/inversion. What is none of the classes lies anywhere between them there.
        return GarbageSettings(
            replace(training, learning_rate=rate),
            LatentSettings(steps=20, step_size=0.3),
            output="constant",
            share=0.5,
            weight=0.6,
            allowed=NATURAL_ALLOWED,
        )
    # Of garments one in fifteen is misjudged anyway, so that garbage may take more of them than of MNIST's digits.
    epochs, allowed = {"mnist": (5, 0.003), "fashion-mnist": (6, 0.005)}.get(id_name, (training.epochs, 0.003))
    return GarbageSettings(replace(training, epochs=epochs, learning_rate=rate), allowed=allowed)


def finetuning_settings(id_name: str, architecture: str, images: int) -> GarbageSettings:
    """The same for a network that is trained already: two epochs at a low rate, of few images as many as are needed.

    Args:
        images: of the ID set, to fit on.
    """
    epochs = max(2, math.ceil(FINETUNING_STEPS * FINETUNING_BATCH / images))
    training = replace(default_settings(id_name, architecture), epochs=epochs, batch_size=FINETUNING_BATCH)
    return GarbageSettings(
        replace(training, learning_rate=training.learning_rate / 5),
        LatentSettings(steps=20, step_size=0.3, images=128),
        output="constant",
        every=20,
        share=2 / 3,
        noise=1 / 7,
        weight=0.6,
        allowed=NATURAL_ALLOWED if training.augment else GarbageSettings.allowed,
        tolerance=0.002,
    )
