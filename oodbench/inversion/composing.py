"""The conditional generator as the maker of latents: the source document's process under drawn compositions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.inversion.compositions import Compositions, Latents
from oodbench.inversion.conditioning import Conditions
from oodbench.inversion.generator import Generator
from oodbench.inversion.settings import InversionSettings


class ComposingGenerator(Generator):
    """A generator of figures and textures, rendered under compositions that every batch draws anew; for `invert`.

    Args:
        draw: compositions of so many images, on the classifier's device.
    """

    def __init__(
        self, classifier: Classifier, settings: InversionSettings, draw: Callable[[int], list[Compositions]]
    ) -> None:
        channels, height, width = classifier.image_shape
        super().__init__(
            classifier.num_classes,
            (1 + channels, height, width),
            settings.conditioning,
            settings.noise_size,
            settings.width,
            settings.dropout,
        )
        # What it makes in the end, which is what the classifier takes.
        self.image_shape = (channels, height, width)
        self.draw = draw

    def forward(self, conditions: Conditions, noise: Tensor) -> Tensor:
        """Images, N×C×H×W in [0, 1], for N conditions and noise N×noise_size."""
        maps = torch.logit(super().forward(conditions, noise), eps=1e-4)
        drawn = self.draw(len(maps))
        parts = maps.split([len(one) for one in drawn])
        return torch.cat([one.render(_pooled(one, part)) for one, part in zip(drawn, parts, strict=True)])


def _pooled(drawn: Compositions, maps: Tensor) -> Latents:
    texture = maps[:, 1 : 1 + drawn.texture_channels]
    return Latents(
        F.adaptive_avg_pool2d(maps[:, :1], drawn.figure_side), F.adaptive_avg_pool2d(texture, drawn.texture_side)
    )
