"""SCALE: another detector, on a network whose features are scaled, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import State, parameter
from oodbench.detectors.shaping import Shaping, precise, pruned_count, share_of_largest
from oodbench.outputs import Change


@dataclass(frozen=True)
class Sharpen:
    """h·exp(r), r = Σh over the sum of its largest values."""

    percentile: float

    def __call__(self, features: Tensor) -> Tensor:
        features = precise(features)
        return features * share_of_largest(features, pruned_count(features.shape[1], self.percentile)).exp()


@dataclass(frozen=True)
class Scale(Shaping):
    """SCALE, Xu et al. 2024 (arXiv 2310.00227): W (h·exp(r)) + b, r = Σh / Σ of the largest of h; nothing is pruned.

    The largest are an exact count of each image's features. Negative ones count as 0 in both sums; r is 1 where all
    are 0.
    """

    percentile: float = parameter(
        85.0,
        "share of the features left out of the lower sum, in %",
        low=0.0,
        high=100.0,
        grid=(65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0),
    )

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"features": Sharpen(self.percentile)}
