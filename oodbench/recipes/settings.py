"""How a classifier with a garbage class is trained: its settings, and their defaults by ID set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from oodbench.errors import OodbenchError, unknown_name
from oodbench.inversion.settings import LatentSettings, Setting, check_declared, declared, declared_settings
from oodbench.training import TrainingSettings, default_settings

NATURAL_ALLOWED = 0.03
"""Share of ID images that garbage may take where they are natural images: what is in them lies among the rest."""

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
    by: By = declared("latents", "Maker of inversions: latents moved directly, or a conditional generator of them.")  # noqa: RUF009
    output: Output = declared("learned", "Garbage logit: learned, or a constant that is calibrated.")  # noqa: RUF009
    every: int = declared(30, "Training steps from one inversion to the next.", 1, 1_000_000)
    share: float = declared(0.25, "Garbage images of a batch, as a share of its ID images.", 0.001, 100)
    noise: float = declared(0.2, "Share of these that are Gaussian noise.", 0, 1)
    most: int = declared(20_000, "Inversions that are kept at most, thinned out at random.", 1, 100_000_000)
    weight: float = declared(0.4, "Weight of the mean loss of garbage images; that of ID images has 1.", 0, 1000)
    allowed: float = declared(0.003, "Share of ID images that garbage may take, by which it is calibrated.", 0, 0.999)
    confidence: float = declared(0.95, "Confidence that no larger share of ID images is taken.", 0.5, 0.999999)
    tolerance: float = declared(0.01, "Accuracy of the classes, on held-out images, that fine-tuning may cost.", 0, 1)

    def __post_init__(self) -> None:
        check_declared(self, "garbage training")

    def replaced(self, **values: Any) -> GarbageSettings:
        """The same settings but for some, named as in SETTINGS.

        Raises:
            OodbenchError: there is no such setting, or a value is out of its range.
        """
        for name in values:
            if name not in SETTINGS:
                raise unknown_name("garbage setting", name, SETTINGS)
        own = {one.name for one in fields(self)}
        inversion = {name: value for name, value in values.items() if name not in own}
        return replace(
            self,
            inversion=replace(self.inversion, **inversion),
            **{name: value for name, value in values.items() if name in own},
        )


SETTINGS: dict[str, Setting] = {one.name: one for one in declared_settings(GarbageSettings())}
"""By name, everything that can be set beside the training settings."""


def parse_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Settings by name, of texts like `steps=0`.

    Raises:
        OodbenchError: a text has another form, there is no such setting, or a value is not of its type.
    """
    values = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise OodbenchError(f"--set takes SETTING=VALUE, e.g. steps=0, not '{text}'")
        if name not in SETTINGS:
            raise unknown_name("garbage setting", name, SETTINGS)
        values[name] = SETTINGS[name].parsed(value)
    return values


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


def finetuning_settings(id_name: str, architecture: str) -> GarbageSettings:
    """The same for a network that is trained already: a few hundred steps (of CIFAR-10's images) at a low rate."""
    training = replace(default_settings(id_name, architecture), epochs=2, batch_size=96)
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
