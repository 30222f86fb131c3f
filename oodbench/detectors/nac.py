"""NAC-UE: how much of the neurons' states ID images have covered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import ROWS, finite
from oodbench.outputs import FitData, Needs, Outputs

BASE = 1000.0
"""Of the logarithm by which the bins' edges are spaced, in the authors' code."""


@dataclass(frozen=True)
class NeuronCoverage(Detector):
    """Neuron activation coverage, NAC-UE, Liu et al. 2024 (arXiv 2306.02879), of the penultimate features.

    A neuron's state is σ(α·h_i·∂KL(u ‖ p)/∂h_i), u uniform, p = softmax(z); the gradient is (Wᵀ(p − u))_i, so that no
    pass goes back. Of each neuron the states of the ID fit images are counted in bins, which are narrower towards ½, as
    in the authors' code. The score is the mean over neurons of min(share of the fit images in the state's bin /
    `filled`, 1). The authors' O* is a count, 50 of 1,000 images; their α is for 512 features, and too steep where there
    are few. They can add earlier layers.
    """

    steepness: float = parameter(
        100.0, "α, steepness of the sigmoid", low=1e-6, high=1e9, grid=(1.0, 10.0, 100.0, 1000.0)
    )
    bins: int = parameter(50, "bins of a neuron's states", low=2, high=10_000, grid=(20, 50, 200, 500))
    filled: float = parameter(
        0.05, "share of the fit images with which a bin is covered", low=1e-9, high=1.0, grid=(0.005, 0.01, 0.05, 0.1)
    )

    needs = fit_needs = Needs("logits", "features", "head")

    def learn(self, data: FitData) -> State:
        features = finite(data.outputs.features, "features")
        counts = torch.zeros(features.shape[1], self.bins, dtype=torch.float64, device=features.device)
        for start in range(0, len(features), ROWS):
            places = self._places(data.outputs.select(slice(start, start + ROWS))).T
            counts.scatter_add_(1, places, torch.ones_like(places, dtype=torch.float64))
        return {"coverage": (counts / len(features) / self.filled).clamp(max=1)}

    def score(self, outputs: Outputs) -> Tensor:
        return self.state["coverage"].gather(1, self._places(outputs).T).mean(dim=0)

    def _places(self, outputs: Outputs) -> Tensor:
        """Which bin each neuron's state is in, int64 N×D."""
        p = outputs.logits.double().softmax(dim=1)
        gradient = (p - 1 / p.shape[1]) @ outputs.head.weight
        states = (self.steepness * outputs.features.double() * gradient).sigmoid()
        return torch.bucketize(states, _edges(self.bins).to(states), right=True)


def _edges(bins: int) -> Tensor:
    """The bins' inner edges: log_1000 of evenly spaced numbers up to ½, and from there their mirror image."""
    # Evenly spaced in the count of bins from either end, of which the middle one, where that is odd, holds ½.
    inner = torch.arange(1, bins, dtype=torch.float64) / (bins / 2)
    lower = (1 + inner.clamp(max=1) * (math.sqrt(BASE) - 1)).log() / math.log(BASE)
    upper = 1 - (1 + (2 - inner.clamp(min=1)) * (math.sqrt(BASE) - 1)).log() / math.log(BASE)
    return torch.where(inner <= 1, lower, upper)
