"""The rounds of a garbage training: how many and of what, what each came to, which one is kept, and its picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from oodbench.errors import OodbenchError
from oodbench.inversion.settings import InversionSettings, LossWeights
from oodbench.models.checkpoint import load_checkpoint
from oodbench.training import TrainingSettings, default_settings

ACCURACY_TOLERANCE = 0.005
"""A round may be chosen whose accuracy on held-out ID images is so far below the best, or one image below it."""


INVERSION = InversionSettings(
    epochs=16,
    learning_rate=5e-3,
    dropout=0.2,
    weights=LossWeights(statistics=100.0, image_cosine=50.0, total_variation=100.0),
)
"""Of images that differ from each other and whose pixels and edges look like those of ID images. With the weights of
`LossWeights` a generator soon makes one picture in slight variations, whose grey ground tells it from ID images."""


@dataclass(frozen=True)
class GarbageSettings:
    """How a classifier with a garbage class is trained.

    Attributes:
        training: of one round: `epochs` is how many a round has, the learning rate goes up and down in each, and
            the seed is that of the whole training.
        inversion: of one round, each by a new generator. The seed is taken from `training`.
        rounds: at most so many.
        patience: a training ends when so many rounds have brought no better one.
        noise, added, most: sizes, in multiples of the mean size of an ID class, of the Gaussian noise that the
            garbage set starts with and keeps, of the inverted images that join it each round, and of all inverted
            images kept. Where there would be more, they are thinned out at random, old and new alike.
        snapshots: how often in a round's inversion images are taken, evenly spaced, the last time at its end: a
            generator that still learns makes other images, and more kinds of them, than one that has learnt.
        keep_realistic: whether inverted images that pass for ID ones (see `Realism`) join the garbage set too.
        allowed: share of held-out ID images that garbage may take, by which each round's network is calibrated.
    """

    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=1))
    inversion: InversionSettings = INVERSION
    rounds: int = 8
    patience: int = 3
    noise: float = 1.0
    added: float = 2.0
    most: float = 8.0
    snapshots: int = 4
    keep_realistic: bool = True
    allowed: float = 0.002

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("patience", 1), ("snapshots", 1), ("noise", 0), ("added", 0), ("most", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise OodbenchError(f"garbage training: {name} must be from {least} up, not {getattr(self, name)}")
        if not 0 <= self.allowed < 1:
            raise OodbenchError(f"garbage training: allowed must be from 0 to below 1, not {self.allowed}")


def default_garbage_settings(id_name: str, architecture: str) -> GarbageSettings:
    """The settings for an architecture on an ID set, where the user gives none."""
    training = default_settings(id_name, architecture)
    # Sets that are augmented, CIFAR, take longer to learn.
    training = replace(training, epochs=3 if training.augment else 1, learning_rate=training.learning_rate / 2)
    if id_name == "digits":
        # So few images that a network has hardly learned after one epoch; and on 8×8 pixels what INVERSION adds has
        # not shown larger garbage shares.
        return GarbageSettings(replace(training, epochs=5), InversionSettings(epochs=8), added=1.0, most=4.0)
    return GarbageSettings(training)


@dataclass(frozen=True)
class RoundReport:
    """What a round came to; all of it on ID images and noise, none of it on an OOD set.

    Attributes:
        accuracy: share of held-out ID images put into their class.
        garbage_share, altered_share: share of held-out kinds of noise, and of held-out ID images altered, put into
            garbage: the mean over the kinds; `shares` has each.
        inversion_accuracy: of the generator that was trained on this round's network.
        new_generators: how many were begun in this round because the one at hand had collapsed.
        uncertainty_id, uncertainty_inverted: mean UE of held-out ID images and of the inverted ones.
        realistic: share of the inverted images that pass for ID images.
        garbage_images: in the garbage set in this round.
    """

    round: int
    accuracy: float
    garbage_share: float
    altered_share: float
    shares: dict[str, float]
    inversion_accuracy: float
    new_generators: int
    uncertainty_id: float
    uncertainty_inverted: float
    realistic: float
    garbage_images: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"round {self.round}: ID accuracy {100 * self.accuracy:.2f} %, garbage share on held-out noise "
            f"{100 * self.garbage_share:.1f} % and on altered ID images {100 * self.altered_share:.1f} %, "
            f"inversion accuracy {self.inversion_accuracy:.2f}, uncertainty "
            f"{self.uncertainty_id:.3f} of ID and {self.uncertainty_inverted:.3f} of inverted images, "
            f"{100 * self.realistic:.1f} % of them realistic, {self.garbage_images:,} garbage images, "
            f"{self.seconds:.0f} s"
            + (f"; the generator had collapsed, {self.new_generators} new begun" if self.new_generators else "")
        )


def best_round(reports: Sequence[RoundReport], held_out: int) -> int:
    """The index of the round to keep: the largest garbage shares among those of nearly the best accuracy.

    Args:
        held_out: how many ID images the accuracy is measured on.
    """
    least = max(report.accuracy for report in reports) - max(ACCURACY_TOLERANCE, 1 / held_out) - 1e-9
    able = [number for number, report in enumerate(reports) if report.accuracy >= least]
    return max(able, key=lambda number: reports[number].garbage_share + reports[number].altered_share)


@dataclass(frozen=True)
class Sheet:
    """A picture that a training left: what it is of, in a word; what it shows, in a sentence; and the PNG."""

    name: str
    caption: str
    png: bytes


def kept_sheet(checkpoint: Path) -> Sheet | None:
    """The images that the network of a checkpoint was inverted to; None where its rounds are not beside it."""
    folder = rounds_folder(checkpoint)
    if not folder.is_dir():
        return None
    kept = load_checkpoint(checkpoint)
    number = kept.record.get("round", 0)
    path = round_file(folder, number)
    picture = path.with_suffix(".png")
    if not (path.is_file() and picture.is_file()):
        return None
    # The folder may be of another training that was begun under the same name.
    state = load_checkpoint(path).state
    if state.keys() != kept.state.keys() or not all(torch.equal(state[name], kept.state[name]) for name in state):
        return None
    caption = f"images that the network itself was inverted to in round {number}, one row a class, the last garbage"
    return Sheet("inversions", caption, picture.read_bytes())


def rounds_folder(checkpoint: Path) -> Path:
    """Where a training leaves its rounds."""
    return Path(f"{checkpoint}.rounds")


def round_file(folder: Path, number: int) -> Path:
    """Where the network of a round is kept."""
    return folder / f"round-{number:02d}.safetensors"
