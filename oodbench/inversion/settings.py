"""How a generator is trained: settings and loss weights. The command line's options come from here: no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from oodbench.errors import OodbenchError, unknown_name

Conditioning = Literal["vector", "matrix", "vector-matrix", "one-hot"]

CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)


def check_conditioning(name: str) -> None:
    """Raise OodbenchError unless `name` is one of CONDITIONINGS."""
    if name not in CONDITIONINGS:
        raise unknown_name("conditioning", name, CONDITIONINGS)


@dataclass(frozen=True)
class LossWeights:
    """What each loss is multiplied by before they are added up; 0 leaves one out.

    Only ratios matter much, since the optimiser (Adam) is indifferent to the scale of the sum. No source publishes
    weights beyond "cross-entropy by far the largest", so the defaults were chosen by measurement, on a CNN for MNIST
    with 300 steps of 128 images. Against 1, 20 for cosine and orthogonality takes the inversion accuracy from 1.000
    to 0.997, but the coverage of real images from 0.04 to 0.12, and digits can be recognised; more costs accuracy.
    A KL weight of 1 takes the coverage down to 0.07: it pulls outputs to the soft conditioning, away from real ones.
    Statistics, image cosine and total variation are not the source document's; the garbage recipe sets them.
    """

    cross_entropy: float = 10.0
    kl: float = 0.1
    cosine: float = 20.0
    orthogonality: float = 20.0
    statistics: float = 0.0
    image_cosine: float = 0.0
    total_variation: float = 0.0
    l1: float = 0.0

    def __post_init__(self) -> None:
        for name in LOSSES:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise OodbenchError(f"the weight of the loss '{name}' must be a number of at least 0, not {value}")
        if not any(getattr(self, name) for name in LOSSES):
            raise OodbenchError("all losses have weight 0, so there is nothing to train on; put one above 0")


LOSSES: tuple[str, ...] = tuple(field.name for field in fields(LossWeights))
"""The names of the losses, in the order in which tables and figures show them."""


def declared(default: Any, help: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A setting: its default, what it is, and its range (inclusive); a Literal type gives its choices."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


def check_declared(settings: Any, what: str) -> None:
    """Raise OodbenchError where a setting of a dataclass is none of its choices, or outside its declared range."""
    types = get_type_hints(type(settings))
    for one in fields(settings):
        value = getattr(settings, one.name)
        choices = get_args(types[one.name]) if get_origin(types[one.name]) is Literal else ()
        if choices and value not in choices:
            raise OodbenchError(f"{what}: {one.name} must be one of {', '.join(choices)}, not {value!r}")
        low, high = one.metadata.get("low", -math.inf), one.metadata.get("high", math.inf)
        if isinstance(value, int | float) and not low <= value <= high:
            raise OodbenchError(f"{what}: {one.name} must be from {low} to {high}, not {value}")


@dataclass(frozen=True)
class InversionSettings:
    """How a generator is trained; the defaults were chosen by measurement on MNIST.

    On a CPU the same seed gives the same result bit for bit.
    """

    epochs: int = declared(30, "An epoch is --steps-per-epoch fresh batches; there are no data.")
    steps_per_epoch: int = declared(15, "Batches an epoch.")
    batch_size: int = declared(128, "Generated images a step.")
    learning_rate: float = declared(2e-3, "Of AdamW.")
    weight_decay: float = declared(1e-4, "Of AdamW, decoupled: it does not depend on the losses' scale.")
    label_smoothing: float = declared(0.01, "Of the cross-entropy, in [0, 1].")
    conditioning: Conditioning = declared("vector-matrix", "What tells the generator the class.")  # noqa: RUF009
    noise_size: int = declared(100, "Length of the generator's noise.")
    width: int = declared(16, "Channels of the generator's largest map; a map has twice those of the next.")
    dropout: float = declared(0.0, "Share of the channels dropped in the up-convolutions while training, in [0, 1).")
    weights: LossWeights = LossWeights()
    accuracy_images: int = declared(500, "Fresh images on which the inversion accuracy is measured after each epoch.")
    seed: int = declared(0, "Of initial weights, draws and dropout.")

    def __post_init__(self) -> None:
        check_conditioning(self.conditioning)
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise OodbenchError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not (self.learning_rate > 0 and 0 <= self.label_smoothing <= 1 and 0 <= self.dropout < 1):
            raise OodbenchError(
                "learning_rate must be above 0, label_smoothing from 0 to 1 and dropout from 0 to below 1; "
                f"given were {self.learning_rate}, {self.label_smoothing} and {self.dropout}"
            )

    def value(self, name: str) -> Any:
        """A setting, or the weight of a loss, by its name."""
        return getattr(self.weights if name in LOSSES else self, name)

    def replaced(self, **values: Any) -> InversionSettings:
        """The same settings but for some, named as here or as in `LossWeights`.

        Raises:
            OodbenchError: there is no such setting.
        """
        for name in values:
            setting(name)
        weights = replace(self.weights, **{name: value for name, value in values.items() if name in LOSSES})
        others = {name: value for name, value in values.items() if name not in LOSSES}
        return replace(self, weights=weights, **others)


# Two images at least: the cosine loss and batch normalisation compare images.
_LEAST = {
    "epochs": 1,
    "steps_per_epoch": 1,
    "batch_size": 2,
    "weight_decay": 0,
    "noise_size": 1,
    "width": 1,
    "accuracy_images": 1,
    "seed": 0,
}


Start = Literal["compositions", "noise"]


@dataclass(frozen=True)
class LatentSettings:
    """How images are made by moving latents (see `latents.invert_latents`), a call.

    Chosen on Fashion-MNIST by shares of ID-only families; `border` and `envelope` were added after the share of MNIST
    had been seen (docs/inversion.md).
    """

    start: Start = declared("compositions", "Start of the images: drawn compositions, or noise alone.")  # noqa: RUF009
    steps: int = declared(
        8, "Steps of an image at most, its own number drawn from 1 up; 0 leaves it as drawn.", 0, 1000
    )
    step_size: float = declared(0.15, "Learning rate of Adam, of latents that are N(0, 1) at first.", 1e-6, 100)
    images: int = declared(192, "Images that are made at a time.", 1, 1_000_000)
    border: float = declared(0.5, "Share of grounds that have the colour of an ID image's border pixel.", 0, 1)
    envelope: float = declared(0.6, "Share of figures that are bounded by an ellipse near the middle.", 0, 1)

    def __post_init__(self) -> None:
        check_declared(self, "inversion by latents")


@dataclass(frozen=True)
class Setting:
    """A setting or loss weight as declared; `type` is int, float or str, `choices` are what a str may be."""

    name: str
    type: type
    default: Any
    choices: tuple[str, ...]
    help: str

    def parsed(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            OodbenchError: it is not of the setting's type.
        """
        try:
            return self.type(text)
        except ValueError:
            kind = "a whole number" if self.type is int else "a number"
            raise OodbenchError(f"{self.name} must be {kind}, not '{text}'") from None


def declared_settings(settings: Any) -> list[Setting]:
    """What is declared in a dataclass of settings, and in those of this module that are its fields, in order."""
    types = get_type_hints(type(settings))
    found = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, LossWeights | LatentSettings):
            found += declared_settings(value)
        elif one.metadata or isinstance(settings, LossWeights):
            choices = get_args(types[one.name]) if get_origin(types[one.name]) is Literal else ()
            help = one.metadata.get("help", f"Weight of the loss {one.name}; 0 leaves it out.")
            found.append(Setting(one.name, str if choices else types[one.name], one.default, choices, help))
    return found


SETTINGS: Mapping[str, Setting] = {one.name: one for one in declared_settings(InversionSettings())}
"""By name, everything that can be set, loss weights among the others."""


def setting(name: str) -> Setting:
    """The setting or loss weight of a name.

    Raises:
        OodbenchError: there is none.
    """
    if name not in SETTINGS:
        raise unknown_name("inversion setting", name, SETTINGS)
    return SETTINGS[name]
