"""How a generator is trained: settings and loss weights. The command line's options come from here: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from oodbench.errors import OodbenchError, unknown_name
from oodbench.parameters import Parameter, all_parameters, changed, check_parameters, parameter, parameters

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

    cross_entropy: float = parameter(10.0, "Weight of the cross-entropy.", low=0)
    kl: float = parameter(0.1, "Weight of the KL divergence to the conditioning.", low=0)
    cosine: float = parameter(20.0, "Weight of the cosine similarity of features.", low=0)
    orthogonality: float = parameter(20.0, "Weight of the features' distance from orthogonality.", low=0)
    statistics: float = parameter(0.0, "Weight of the distance from the network's BatchNorm statistics.", low=0)
    image_cosine: float = parameter(0.0, "Weight of the cosine similarity of images.", low=0)
    total_variation: float = parameter(0.0, "Weight of the total variation.", low=0)
    l1: float = parameter(0.0, "Weight of the L1 norm of the generator's weights.", low=0)

    def __post_init__(self) -> None:
        check_parameters(self)
        if not any(getattr(self, name) for name in LOSSES):
            raise OodbenchError("all losses have weight 0, so there is nothing to train on; put one above 0")


LOSSES: tuple[str, ...] = tuple(one.name for one in parameters(LossWeights))
"""The names of the losses, in the order in which tables and figures show them."""


@dataclass(frozen=True)
class InversionSettings:
    """How a generator is trained; the defaults were chosen by measurement on MNIST.

    On a CPU the same seed gives the same result bit for bit.
    """

    epochs: int = parameter(30, "Epochs of --steps-per-epoch fresh batches; there are no data.", low=1)
    steps_per_epoch: int = parameter(15, "Batches an epoch.", low=1)
    # Two images at least: the cosine loss and batch normalisation compare images.
    batch_size: int = parameter(128, "Generated images a step.", low=2)
    learning_rate: float = parameter(2e-3, "Learning rate of AdamW.", low=1e-12)
    weight_decay: float = parameter(
        1e-4, "Weight decay of AdamW, decoupled: the losses' scale is nothing to it.", low=0
    )
    label_smoothing: float = parameter(0.01, "Label smoothing of the cross-entropy.", low=0, high=1)
    conditioning: Conditioning = parameter("vector-matrix", "Conditioning: what tells the generator the class.")
    noise_size: int = parameter(100, "Length of the generator's noise.", low=1)
    width: int = parameter(16, "Channels of the generator's largest map; a map has twice those of the next.", low=1)
    dropout: float = parameter(0.0, "Share of the channels dropped in the up-convolutions.", low=0, high=0.999)
    weights: LossWeights = LossWeights()
    accuracy_images: int = parameter(500, "Fresh images that the inversion accuracy is measured on, an epoch.", low=1)
    seed: int = parameter(0, "Seed of initial weights, draws and dropout.", low=0)

    def __post_init__(self) -> None:
        check_parameters(self)

    def value(self, name: str) -> Any:
        """A setting, or the weight of a loss, by its name."""
        return getattr(self.weights if name in LOSSES else self, name)

    def replaced(self, **values: Any) -> InversionSettings:
        """The same settings but for some, named as here or as in `LossWeights`.

        Raises:
            OodbenchError: there is no such setting.
        """
        return changed(self, values)


Start = Literal["compositions", "noise"]


@dataclass(frozen=True)
class LatentSettings:
    """How images are made by moving latents (see `latents.invert_latents`), a call.

    Chosen on Fashion-MNIST by shares of ID-only families; `border` and `envelope` were added after the share of MNIST
    had been seen (docs/inversion.md).
    """

    start: Start = parameter("compositions", "Start of the images: drawn compositions, or noise alone.")
    steps: int = parameter(
        8, "Steps of an image at most, its own number drawn from 1 up; 0 leaves it as drawn.", low=0, high=1000
    )
    step_size: float = parameter(
        0.15, "Learning rate of Adam, of latents that are N(0, 1) at first.", low=1e-6, high=100
    )
    images: int = parameter(192, "Images that are made at a time.", low=1, high=1_000_000)
    border: float = parameter(
        0.5, "Share of grounds that have the colour of an ID image's border pixel.", low=0, high=1
    )
    envelope: float = parameter(0.6, "Share of figures that are bounded by an ellipse near the middle.", low=0, high=1)

    def __post_init__(self) -> None:
        check_parameters(self)


@dataclass(frozen=True)
class PyramidSettings:
    """How images are made without a generator, from latents of their own (see `pyramids.invert_pyramids`).

    Chosen on MNIST and Fashion-MNIST by inversion accuracy, diversity and the look of the images; no OOD set was seen.
    """

    images: int = parameter(2000, "Images that are made, of each class about as many.", low=1, high=1_000_000)
    # Two at least: the losses compare images.
    batch_size: int = parameter(250, "Images that are moved together.", low=2)
    steps: int = parameter(60, "Steps of an image.", low=1, high=100_000)
    step_size: float = parameter(
        0.2, "Learning rate of Adam, of latents that are N(0, 1) at first.", low=1e-6, high=100
    )
    cross_entropy: float = parameter(1.0, "Weight of the cross-entropy.", low=0)
    statistics: float = parameter(30.0, "Weight of the distance from the network's BatchNorm statistics.", low=0)
    within_class: float = parameter(0.1, "Weight of the cosine similarity of features within a class.", low=0)
    image_cosine: float = parameter(0.0, "Weight of the cosine similarity of images.", low=0)
    total_variation: float = parameter(0.0, "Weight of the total variation.", low=0)
    gradient: float = parameter(0.0, "Weight of the squared gradient of the head's weights.", low=0)
    shift: int = parameter(0, "Pixels by which images are shifted at random, a step, at most.", low=0)
    contrast: float = parameter(3.0, "Contrast of the figures: how sharp they are.", low=0.01, high=100)
    offset: float = parameter(-2.0, "Size of the figures at the start; below 0 is less than half.", low=-100, high=100)
    texture: float = parameter(1.0, "Contrast of the figures' texture.", low=0, high=100)
    lightness: float = parameter(1.0, "Lightness of the texture at the start; 0 is grey.", low=-100, high=100)
    frame: float = parameter(
        0.8, "Half-width of what is not black, as a share of half of the image, about; 0: no black frame.", low=0
    )
    seed: int = parameter(0, "Seed of the latents, the shifts and the images drawn.", low=0)

    def __post_init__(self) -> None:
        check_parameters(self)
        if not (self.cross_entropy or self.gradient):
            raise OodbenchError("without cross_entropy and gradient no class is asked for; put one above 0")


@dataclass(frozen=True)
class ReconstructionSettings:
    """How training images are sought (see docs/inversion.md): as in `PyramidSettings`, with other defaults."""

    overfit: int = parameter(
        0,
        "Training images that a network is trained on, to be overfitted on purpose; 0: the classifier as it is.",
        low=0,
    )
    overfit_epochs: int = parameter(200, "Epochs of that training.", low=1)
    pyramid: PyramidSettings = PyramidSettings(images=200, batch_size=200, steps=200, within_class=0.0)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def seed(self) -> int:
        """Of the training and of the inversion."""
        return self.pyramid.seed


SETTINGS: Mapping[str, Parameter] = all_parameters(InversionSettings)
"""By name, everything that can be set of a generator's training, loss weights among the others."""


def setting(name: str) -> Parameter:
    """The setting or loss weight of a name.

    Raises:
        OodbenchError: there is none.
    """
    if name not in SETTINGS:
        raise unknown_name("inversion setting", name, SETTINGS)
    return SETTINGS[name]
