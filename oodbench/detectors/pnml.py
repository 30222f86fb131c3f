"""Predictive normalised maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import ROWS, finite, normalised
from oodbench.detectors.softmax import log_probabilities
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Pnml(Detector):
    """Single-layer pNML, Bibas, Feder & Hassner 2021 (arXiv 2110.09246), eq. 20: −log Σ_i p_i/(p_i + (1 − p_i)p_i^κ).

    That regret is what a learner which knew the class could gain. κ = q/(1 + q), q = xᵀ(XᵀX)⁻¹x, x the penultimate
    features at length 1 and X those of the fit images. Where XᵀX has an eigenvalue below a share of its largest, it is
    taken to be that share: an image that lies where no fit image does has a large q, where a pseudo-inverse would give
    it none. q falls with the number of fit images, by the method: a fit set twice over is twice the evidence.
    """

    floor: float = parameter(
        1e-10,
        "share of the largest eigenvalue of XᵀX that no other falls below",
        low=1e-15,
        high=1.0,
        grid=(1e-10, 1e-6, 1e-3),
    )
    preset: str = parameter(
        "paper",
        "probabilities p: paper, those of the network; pytorch-ood, those that its head gives the features at length 1",
        choices=("paper", "pytorch-ood"),
    )

    @property
    def needs(self) -> Needs:
        return Needs("features", "logits") if self.preset == "paper" else Needs("features", "head")

    fit_needs = Needs("features")

    def learn(self, data: FitData) -> State:
        blocks = map(normalised, finite(data.outputs.features, "features").split(ROWS))
        values, directions = torch.linalg.eigh(torch.stack([block.T @ block for block in blocks]).sum(dim=0))
        least = max(self.floor * float(values[-1]), torch.finfo(torch.float64).tiny)
        return {"whitening": directions / values.clamp_min(least).sqrt()}

    def score(self, outputs: Outputs) -> Tensor:
        x = normalised(outputs.features)
        q = (x @ self.state["whitening"]).square().sum(dim=1, keepdim=True)
        logits = outputs.logits if self.preset == "paper" else outputs.head(x)
        log_p, log_rest = log_probabilities(logits)
        odds = log_p / (1 + q) - log_rest  # of the shares that are summed: 1 − κ = 1/(1 + q)
        # The likeliest class's share is next to 1, so what it lacks is summed with the others instead.
        lacking = torch.sigmoid(odds).scatter(1, log_p.argmax(dim=1, keepdim=True), 0.0).sum(dim=1)
        return -(lacking - torch.sigmoid(-odds.gather(1, log_p.argmax(dim=1, keepdim=True))[:, 0])).log1p()
