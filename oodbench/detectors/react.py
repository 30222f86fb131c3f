"""ReAct: another detector, on a network whose features are clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import fit_array, refuse_base
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Clip:
    """min(h, c)."""

    limit: float

    def __call__(self, features: Tensor) -> Tensor:
        return features.clamp(max=self.limit)


@dataclass(frozen=True)
class React(Detector):
    """Rectified activations, Sun, Guo & Li 2021 (arXiv 2111.12797): W min(h, c) + b.

    The base detector, fitted and scoring on the network in which the penultimate features are h̄ = min(h, c), so
    that the logits are W h̄ + b. c is a percentile of all features of all ID fit images together.
    """

    base: Detector = parameter("energy", "the detector of the clipped network")
    percentile: float = parameter(
        90.0, "share of the fit features below c, in %", low=0.0, high=100.0, grid=(85.0, 90.0, 95.0, 99.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        reduces = type(self.base).reduce is not Detector.reduce
        refuse_base("react", self.base, {"learns from maps of the network as it is": reduces})

    @property
    def needs(self) -> Needs:
        return Needs("features", "head") | (self._fitted_base() if self.fitted else self.base).needs

    @property
    def fit_needs(self) -> Needs:
        return Needs("features", "head") | self.base.fit_needs

    def learn(self, data: FitData) -> State:
        limit = float(np.percentile(fit_array(data.outputs.features, "features"), self.percentile))
        return {"limit": limit, "base": self.base.fit(data.edited({"features": Clip(limit)})).state}

    def score(self, outputs: Outputs) -> Tensor:
        return self._fitted_base().score(outputs.edited({"features": Clip(self.state["limit"])}))

    def _fitted_base(self) -> Detector:
        return self.base.with_state(self.state["base"])
