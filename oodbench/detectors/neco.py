"""NECO: neural collapse by principal components."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import finite, mean_of, scatter
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Neco(Detector):
    """NECO, Ben Ammar et al. 2024 (arXiv 2310.06823), eq. 6: ‖P h‖/‖h‖ · max_k z_k.

    h are the penultimate features, standardised by the fit images, P their first d principal directions: as few as
    have a share of the variance. Equation 6 is the ratio alone; the authors multiply by the largest logit on all
    networks but ResNet-18. Features that do not vary are left as they are; an image at the mean has the ratio 0.
    """

    explained: float = parameter(
        0.9, "share of the variance that the d directions have", low=0.0, high=1.0, grid=(0.5, 0.8, 0.9, 0.95, 0.99)
    )
    maxlogit: bool = parameter(True, "multiply by the largest logit")

    needs = Needs("logits", "features")
    fit_needs = Needs("features")

    def learn(self, data: FitData) -> State:
        features = finite(data.outputs.features, "features")
        mean = mean_of(features)
        covariance = scatter(features, mean)
        # A feature that never changes has a variance of rounding alone.
        rounding = torch.finfo(features.dtype).eps * (1 + mean.abs())
        scale = covariance.diagonal().sqrt()
        scale = scale.where(scale > rounding, 1.0)
        values, directions = torch.linalg.eigh(covariance / scale / scale[:, None])
        shares = values.flip(0).clamp_min(0).cumsum(0)
        count = int((shares < self.explained * shares[-1]).sum()) + 1
        return {"mean": mean, "scale": scale, "principal": directions.flip(1)[:, :count]}

    def score(self, outputs: Outputs) -> Tensor:
        h = (outputs.features.double() - self.state["mean"]) / self.state["scale"]
        ratio = (h @ self.state["principal"]).norm(dim=1) / h.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        return ratio * outputs.logits.double().amax(dim=1) if self.maxlogit else ratio
