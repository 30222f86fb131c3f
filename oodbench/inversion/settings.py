"""How a generator is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from oodbench.errors import OodbenchError, unknown_name
from oodbench.inversion.conditioning import Conditioning, check_conditioning
from oodbench.inversion.losses import LOSSES, LossWeights


@dataclass(frozen=True)
class InversionSettings:
    """How a generator is trained; the defaults were chosen by measurement on MNIST.

    Attributes:
        epochs, steps_per_epoch, batch_size: an epoch is `steps_per_epoch` fresh batches; there are no data.
        learning_rate, weight_decay: of AdamW, whose decay is decoupled: it does not depend on the losses'
            scale.
        label_smoothing: of the cross-entropy, in [0, 1].
        conditioning, noise_size, width, dropout: of the `Generator`.
        weights: of the losses.
        accuracy_images: fresh images on which the inversion accuracy is measured after each epoch.
        seed: decides initial weights, draws and dropout; on a CPU the result is the same bit for bit.
    """

    epochs: int = 30
    steps_per_epoch: int = 15
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.01
    conditioning: Conditioning = "vector-matrix"
    noise_size: int = 100
    width: int = 16
    dropout: float = 0.0
    weights: LossWeights = LossWeights()  # noqa: RUF009
    accuracy_images: int = 500
    seed: int = 0

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

    def replaced(self, **values: Any) -> InversionSettings:
        """The same settings but for some, named as here or as in `LossWeights`.

        Raises:
            OodbenchError: there is no such setting.
        """
        known = {field.name for field in fields(self)}
        for name in values:
            if name not in known and name not in LOSSES:
                raise unknown_name("inversion setting", name, [*known, *LOSSES])
        weights = replace(self.weights, **{name: value for name, value in values.items() if name in LOSSES})
        return replace(self, weights=weights, **{name: value for name, value in values.items() if name in known})


# Two images at least: the cosine loss and batch normalisation compare images.
_LEAST = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "weight_decay": 0, "accuracy_images": 1}
