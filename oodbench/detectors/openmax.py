"""OpenMax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import mean_of, right_ones
from oodbench.outputs import FitData, Needs, Outputs

SHIFT = 1e4
"""Where LibMR, by which the paper fits, moves the least distance of a tail."""

STEEPEST = 1e9
"""The shape of a tail whose distances are all the same: a step."""


@dataclass(frozen=True)
class OpenMax(Detector):
    """OpenMax, Bendale & Boult 2016 (arXiv 1511.06233), algorithms 1 and 2: 1 − p(unknown), as log-odds.

    The logits z of an image have the distances ‖z − μ_c‖ from each class's mean over the fit images that are
    classified right. A Weibull distribution of the largest of these images' own distances, fitted as LibMR does, says
    how far out that is, w_c. The i-th largest of the top α logits is revised to z(1 − w·(α + 1 − i)/α), and what they
    lose goes to the unknown class. The paper prints exp(−(d/λ)^κ) for w, by which what is far would lose nothing; its
    code has 1 minus that, and so has this. A class that has no fit image right has w = 1 and
    stands on the card.
    """

    tail: int = parameter(20, "η, the largest distances of a class, which are fitted", low=2, grid=(5, 10, 20, 50))
    alpha: int = parameter(10, "α, how many of the largest logits are revised", low=1, grid=(1, 3, 10, 20))

    fit_needs = Needs("logits", "labels")

    def learn(self, data: FitData) -> State:
        right, predicted = right_ones(data, "openmax")
        classes = predicted[right].unique()
        means, tails = [], []
        for one in classes:
            logits = data.outputs.logits[right & (predicted == one)]
            means.append(mean_of(logits))
            distances = (logits.double() - means[-1]).norm(dim=1).sort().values[-self.tail :]
            tails.append([float(distances[0]), *weibull(distances.cpu().numpy() - float(distances[0]) + SHIFT)])
        fitted = torch.tensor(tails, dtype=torch.float64, device=means[0].device)
        never = sorted(set(range(data.outputs.logits.shape[1])) - set(classes.tolist()))
        return {"classes": classes, "means": torch.stack(means), "tails": fitted, "classes never right": never}

    def score(self, outputs: Outputs) -> Tensor:
        z = outputs.logits.double()
        outlying = torch.ones_like(z)
        outlying[:, self.state["classes"]] = self._outlying(z)
        order = z.argsort(dim=1, descending=True, stable=True)
        alpha = min(self.alpha, z.shape[1])
        ranks = torch.arange(z.shape[1]).to(z)
        weights = ((alpha - ranks) / alpha).clamp_min(0).expand_as(z)
        lost = z * outlying * torch.zeros_like(z).scatter(1, order, weights)
        return (z - lost).logsumexp(dim=1) - lost.sum(dim=1)

    def _outlying(self, z: Tensor) -> Tensor:
        """The Weibull distributions' values at the distances of N×K logits from the classes' means."""
        least, shape, log_scale = self.state["tails"].T
        distances = torch.cdist(z, self.state["means"], compute_mode="donot_use_mm_for_euclid_dist")
        shifted = (distances - least + SHIFT).clamp_min(torch.finfo(torch.float64).tiny)
        return -(-(shape * (shifted.log() - log_scale)).exp()).expm1()


def weibull(values: np.ndarray) -> tuple[float, float]:
    """Shape and logarithm of the scale of the Weibull distribution from 0 that makes positive values likeliest."""
    logs = np.log(values)

    def excess(shape: float) -> float:
        """The derivative by the shape, at the scale that is best for it; it has one root."""
        weights = np.exp(shape * (logs - logs.max()))
        return float(weights @ logs / weights.sum() - 1 / shape - logs.mean())

    shape = brentq(excess, 1e-3, STEEPEST, rtol=1e-12) if excess(STEEPEST) > 0 else STEEPEST
    return shape, float(logs.max() + np.log(np.exp(shape * (logs - logs.max())).mean()) / shape)
