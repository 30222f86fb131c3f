"""ASH: another detector, on a network most of whose features are pruned, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import State, parameter
from oodbench.detectors.shaping import Shaping, largest, precise, pruned_count, share_of_largest
from oodbench.outputs import Change

GRID = (60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)


@dataclass(frozen=True)
class Prune:
    """h with its largest values alone: as they are, the sum of h spread evenly over them, or sharpened."""

    percentile: float
    kept: str

    def __call__(self, features: Tensor) -> Tensor:
        features = precise(features)
        count = pruned_count(features.shape[1], self.percentile)
        values, places = largest(features, count)
        if self.kept == "even":
            values = (features.sum(dim=1, keepdim=True) / count).expand_as(values)
        if self.kept == "sharpened":
            values = values * share_of_largest(features, count).exp()
        return torch.zeros_like(features).scatter(1, places, values)


@dataclass(frozen=True)
class AshP(Shaping):
    """ASH-P, Djurisic et al. 2023 (arXiv 2209.09858): the lowest share of each image's features is set to 0.

    How many are left is an exact count; of equal ones, those that come first.
    """

    percentile: float = parameter(60.0, "share of the features pruned, in %", low=0.0, high=100.0, grid=GRID)

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"features": Prune(self.percentile, "as they are")}


@dataclass(frozen=True)
class AshB(Shaping):
    """ASH-B, Djurisic et al. 2023 (arXiv 2209.09858): ASH-P with what is left set to Σh over their number."""

    percentile: float = parameter(65.0, "share of the features pruned, in %", low=0.0, high=100.0, grid=GRID)

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"features": Prune(self.percentile, "even")}


@dataclass(frozen=True)
class AshS(Shaping):
    """ASH-S, Djurisic et al. 2023 (arXiv 2209.09858): ASH-P with what is left times exp(s₁/s₂).

    s₁ and s₂ are the sums of the features before and after pruning (negative ones count as 0); s₁/s₂ is 1 where all
    are 0.
    """

    percentile: float = parameter(90.0, "share of the features pruned, in %", low=0.0, high=100.0, grid=GRID)

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"features": Prune(self.percentile, "sharpened")}
