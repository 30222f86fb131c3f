"""Fast decision boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import finite, mean_of
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class DecisionBoundary(Detector):
    """Fast decision boundary (fDBD), Liu & Qin 2024 (arXiv 2312.11536): how far the boundaries are, over ‖h − μ‖.

    The mean over the classes c other than the predicted ŷ of (z_ŷ − z_c)/‖w_ŷ − w_c‖, the distance of the penultimate
    features h to where the classes meet, w being rows of the last weight and μ the mean of the fit features. Classes
    whose rows are the same never meet, and count 0. OpenOOD also divides by ‖h‖ instead.
    """

    over: str = parameter(
        "deviation", "length to divide by: deviation, ‖h − μ‖; norm, ‖h‖", choices=("deviation", "norm")
    )

    needs = Needs("logits", "features")
    fit_needs = Needs("features", "head")

    def learn(self, data: FitData) -> State:
        weight = data.outputs.head.weight
        between = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        return {"between": between, "mean": mean_of(finite(data.outputs.features, "features"))}

    def score(self, outputs: Outputs) -> Tensor:
        (top, predicted), z = outputs.logits.double().max(dim=1, keepdim=True), outputs.logits.double()
        between = self.state["between"][predicted[:, 0]]
        meet = between > 0
        distances = torch.where(meet, (top - z) / between.where(meet, 1.0), 0.0).sum(dim=1) / (z.shape[1] - 1)
        h = outputs.features.double()
        length = (h - self.state["mean"] if self.over == "deviation" else h).norm(dim=1)
        return distances / length.clamp_min(torch.finfo(torch.float32).tiny)
