"""Mahalanobis distance to the nearest class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import class_labels, fit_array, learned
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Mahalanobis(Detector):
    """Mahalanobis distance, Lee et al. 2018 (arXiv 1807.03888), eq. 1 and 2: −min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c).

    h are the penultimate features, μ_c the mean of class c, Σ = Σ_i (h_i − μ_{y_i})(h_i − μ_{y_i})ᵀ/N the covariance
    that all classes share. Where it is singular, as under dead features, Σ⁻¹ does not exist: Σ is shrunk to
    (1 − λ)Σ + λ·(tr Σ/D)·I first. A class without fit images has no mean. Without the paper's step and other layers.
    """

    shrinkage: float = parameter(
        1e-6,
        "λ, how far Σ is shrunk towards a multiple of the identity; 0 is the paper's Σ",
        low=0.0,
        high=1.0,
        grid=(0.0, 1e-6, 1e-4, 1e-2, 0.1),
    )

    needs = Needs("features")
    fit_needs = Needs("features", "labels")

    def learn(self, data: FitData) -> State:
        features = learned(fit_array(data.outputs.features, "features"), data.outputs.features)
        classes, labels = class_labels(data, "mahalanobis").unique(return_inverse=True)
        means = torch.stack([features[labels == index].mean(dim=0) for index in range(len(classes))])
        centred = features - means[labels]
        covariance = centred.T @ centred / len(centred)
        size = len(covariance)
        target = covariance.trace() / size * torch.eye(size).to(covariance)
        variances, directions = torch.linalg.eigh((1 - self.shrinkage) * covariance + self.shrinkage * target)
        if not variances[0] > size * torch.finfo(torch.float64).eps * variances[-1]:
            rank = int((variances > size * torch.finfo(torch.float64).eps * variances[-1]).sum())
            raise OodbenchError(
                f"the covariance of the {size} features within the classes has rank {rank} on {len(features)} fit "
                f"images, so it has no inverse; give more fit images, or a larger shrinkage than {self.shrinkage}"
            )
        whitening = directions / variances.sqrt()
        return {"whitening": whitening, "means": means @ whitening}

    def score(self, outputs: Outputs) -> Tensor:
        white = outputs.features.double() @ self.state["whitening"]
        # Not by ‖x‖² − 2x·μ + ‖μ‖², of which little may be left far from the origin.
        distances = torch.cdist(white, self.state["means"], compute_mode="donot_use_mm_for_euclid_dist")
        return -distances.amin(dim=1).square()
