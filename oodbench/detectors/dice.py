"""DICE: another detector, on a network whose last weight is sparse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import State, parameter
from oodbench.detectors.fitting import fit_array, learned
from oodbench.detectors.shaping import Shaping, largest, pruned_count
from oodbench.outputs import Change, FitData, Head


@dataclass(frozen=True, eq=False)
class Mask:
    """The head with the weights alone that the mask has."""

    mask: Tensor

    def __call__(self, head: Head) -> Head:
        return Head(head.weight * self.mask, head.bias)


@dataclass(frozen=True)
class Dice(Shaping):
    """DICE, Sun & Li 2022 (arXiv 2111.09805): (W ⊙ M) h + b.

    M is 1 for the largest contributions W ⊙ h̄, h̄ being the mean features of the ID fit images, and 0 for the rest. How
    many are left is an exact count over all classes together; of equal ones, those that come first.
    """

    percentile: float = parameter(
        90.0, "share of the weights set to 0, in %", low=0.0, high=100.0, grid=(10.0, 30.0, 50.0, 70.0, 90.0)
    )

    def measure(self, data: FitData) -> State:
        features = data.outputs.features
        mean = learned(fit_array(features, "features").mean(axis=0), features)
        contributions = (data.outputs.head.weight * mean).flatten()
        _, places = largest(contributions[None], pruned_count(len(contributions), self.percentile))
        mask = torch.zeros_like(contributions, dtype=torch.bool)
        mask[places[0]] = True
        return {"mask": mask.view_as(data.outputs.head.weight)}

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"head": Mask(measured["mask"])}
