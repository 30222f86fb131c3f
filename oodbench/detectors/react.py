"""ReAct: another detector, on a network whose features are clipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from oodbench.detectors.base import State, parameter
from oodbench.detectors.fitting import fit_array
from oodbench.detectors.shaping import Shaping
from oodbench.outputs import Change, FitData


@dataclass(frozen=True)
class Clip:
    """min(h, c)."""

    limit: float

    def __call__(self, features: Tensor) -> Tensor:
        return features.clamp(max=self.limit)


@dataclass(frozen=True)
class React(Shaping):
    """Rectified activations, Sun, Guo & Li 2021 (arXiv 2111.12797): W min(h, c) + b.

    The base detector, fitted and scoring on the network in which the penultimate features are h̄ = min(h, c), so
    that the logits are W h̄ + b. c is a percentile of all features of all ID fit images together.
    """

    percentile: float = parameter(
        90.0, "share of the fit features below c, in %", low=0.0, high=100.0, grid=(85.0, 90.0, 95.0, 99.0)
    )

    def measure(self, data: FitData) -> State:
        return {"limit": float(np.percentile(fit_array(data.outputs.features, "features"), self.percentile))}

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"features": Clip(measured["limit"])}
