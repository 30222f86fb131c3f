"""GradNorm."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class GradNorm(Detector):
    """GradNorm, Huang, Geng & Li 2021 (arXiv 2110.00218), in closed form: ‖p − u‖₁·‖h‖₁/T.

    The score is ‖∂KL(u ‖ softmax(z/T))/∂W‖₁, W the weight of the last linear layer and u uniform. That gradient is
    the outer product of (p − u)/T and h, so that no pass goes back.
    """

    temperature: float = parameter(
        1.0, "temperature T of the softmax", low=1e-6, high=1e9, grid=(0.5, 1.0, 2.0, 4.0, 8.0)
    )

    needs = Needs("logits", "features")

    def score(self, outputs: Outputs) -> Tensor:
        p = (outputs.logits.double() / self.temperature).softmax(dim=1)
        u = 1 / p.shape[1]
        return (p - u).abs().sum(dim=1) * outputs.features.double().abs().sum(dim=1) / self.temperature
