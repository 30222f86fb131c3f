"""VRA: another detector, on a network in which low features are cut off and high ones clipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oodbench.detectors.base import State, parameter
from oodbench.detectors.fitting import fit_array, learned
from oodbench.detectors.shaping import Shaping, precise
from oodbench.errors import OodbenchError
from oodbench.outputs import Change, FitData


@dataclass(frozen=True, eq=False)
class Rectify:
    """0 below α, h + γ from α to β, β above."""

    low: Tensor
    high: Tensor
    amplification: float

    def __call__(self, features: Tensor) -> Tensor:
        features = precise(features)
        low, high = (bound.to(features) for bound in (self.low, self.high))
        middle = torch.where(features > high, high, features + self.amplification)
        return torch.where(features < low, 0, middle)


@dataclass(frozen=True)
class Vra(Shaping):
    """Variational rectified activation, Xu et al. 2023 (arXiv 2302.11716): VRA, and with γ > 0 its VRA+.

    A feature becomes 0 below α, stays, plus γ, from α to β, and is β above. α and β are percentiles of that feature of
    the ID fit images, as in the authors' code; their values for CIFAR-10 are the defaults (VRA+: 60, 95 and γ = 0.6).
    """

    lower: float = parameter(
        60.0, "share of the fit features below α, in %", low=0.0, high=100.0, grid=(10.0, 30.0, 50.0, 60.0)
    )
    upper: float = parameter(
        90.0, "share of the fit features below β, in %", low=0.0, high=100.0, grid=(85.0, 90.0, 95.0, 99.0)
    )
    amplification: float = parameter(
        0.0, "γ, what is added to features from α to β", low=0.0, high=1e6, grid=(0.0, 0.3, 0.6)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower > self.upper:
            raise OodbenchError(f"vra: lower is {self.lower:g}, above upper, {self.upper:g}; give a smaller one")

    def measure(self, data: FitData) -> State:
        features = data.outputs.features
        low, high = np.percentile(fit_array(features, "features"), (self.lower, self.upper), axis=0)
        return {"low": learned(low, features), "high": learned(high, features)}

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"features": Rectify(measured["low"], measured["high"], self.amplification)}
