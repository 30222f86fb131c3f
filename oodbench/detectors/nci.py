"""Neural-collapse inspired detector."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import finite, mean_of, normalised
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class NeuralCollapse(Detector):
    """Neural-collapse inspired (NCI), Liu & Qin 2023 (arXiv 2311.01479): w_ŷ·(h − μ)/‖h − μ‖ + α‖h‖₁.

    h are the penultimate features, μ their mean over the fit images, w_ŷ the predicted class's row of the last weight.
    The paper chooses α on validation data; pytorch-ood's default is 0.
    """

    alpha: float = parameter(1e-3, "α, weight of ‖h‖₁", low=0.0, high=1e3, grid=(0.0, 1e-4, 1e-3, 1e-2, 0.1))

    needs = Needs("logits", "features", "head")
    fit_needs = Needs("features")

    def learn(self, data: FitData) -> State:
        return {"mean": mean_of(finite(data.outputs.features, "features"))}

    def score(self, outputs: Outputs) -> Tensor:
        h = outputs.features.double()
        own = outputs.head.weight[outputs.logits.argmax(dim=1)]
        return (own * normalised(h - self.state["mean"])).sum(dim=1) + self.alpha * h.abs().sum(dim=1)
