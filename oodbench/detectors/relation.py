"""Neural relation graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import threshold

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import drawn, finite, normalised
from oodbench.detectors.knn import rows_at_once
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Relation(Detector):
    """Relation to the fit images, Kim et al. 2023 (arXiv 2301.12321, neural relation graph).

    The score is the mean over a bank of fit images i of k_i^t where k_i is above the threshold, of 0 where it is not:
    k_i = max(0, cos(h, h_i))·(p · p_i), h being penultimate features and p softmax probabilities. The paper sums, by
    which a larger bank scores more.
    """

    power: float = parameter(1.0, "t, which sharpens the kernel", low=0.1, high=100.0, grid=(1.0, 2.0, 4.0, 6.0, 8.0))
    threshold: float = parameter(0.03, "kernel below which there is no edge", low=0.0, high=1.0, grid=(0.0, 0.03, 0.3))
    bank: int = parameter(
        10_000, "fit images in the bank, drawn; all, where there are fewer", low=1, grid=(100, 10_000)
    )

    needs = Needs("logits", "features")
    fit_needs = Needs("logits", "features")

    def learn(self, data: FitData) -> State:
        chosen = drawn(len(data.outputs), self.bank)
        features = finite(data.outputs.features[chosen], "features")
        logits = finite(data.outputs.logits[chosen], "logits").double()
        return {"features": normalised(features), "probabilities": logits.softmax(dim=1)}

    def score(self, outputs: Outputs) -> Tensor:
        rows = rows_at_once(self.state["features"])
        parts = zip(outputs.features.split(rows), outputs.logits.split(rows), strict=True)
        return torch.cat([self._relation(features, logits.double().softmax(dim=1)) for features, logits in parts])

    def _relation(self, features: Tensor, p: Tensor) -> Tensor:
        kernel = (normalised(features) @ self.state["features"].T).clamp_min_(0)
        kernel = threshold(kernel.mul_(p @ self.state["probabilities"].T), self.threshold, 0.0)
        return (kernel if self.power == 1 else kernel.pow(self.power)).mean(dim=1)
