"""Mahalanobis distance to the nearest class, and relative to that from all classes together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import ROWS, class_labels, class_means, finite, mean_of, scatter
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs

SHRINKAGE = parameter(
    1e-6,
    "λ, how far Σ is shrunk towards a multiple of the identity; 0 is the paper's Σ",
    low=0.0,
    high=1.0,
    grid=(0.0, 1e-6, 1e-4, 1e-2, 0.1),
)


@dataclass(frozen=True)
class Mahalanobis(Detector):
    """Mahalanobis distance, Lee et al. 2018 (arXiv 1807.03888), eq. 1 and 2: −min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c).

    h are the penultimate features, μ_c the mean of class c, Σ = Σ_i (h_i − μ_{y_i})(h_i − μ_{y_i})ᵀ/N the covariance
    that all classes share. Where it is singular, as under dead features, Σ⁻¹ does not exist: Σ is shrunk to
    (1 − λ)Σ + λ·(tr Σ/D)·I first. A class without fit images has no mean. Without the paper's step and other layers.
    """

    shrinkage: float = SHRINKAGE

    needs = Needs("features")
    fit_needs = Needs("features", "labels")

    def learn(self, data: FitData) -> State:
        features = finite(data.outputs.features, "features")
        classes, labels = class_labels(data, "mahalanobis").unique(return_inverse=True)
        means = class_means(features, labels, len(classes))
        white = whitening(scatter(features, means, labels), self.shrinkage, len(features))
        return {"whitening": white, "means": means @ white}

    def score(self, outputs: Outputs) -> Tensor:
        return -nearest_distance(outputs, self.state)


@dataclass(frozen=True)
class RelativeMahalanobis(Detector):
    """Relative Mahalanobis distance, Ren et al. 2021 (arXiv 2106.09022): −min_c (MD_c − MD_0).

    MD_c is the Mahalanobis distance to class c (see `Mahalanobis`), MD_0 that to the mean of all fit images, by the
    covariance around it; both covariances are divided by the number of fit images, and both are shrunk alike. Of one
    class, the score is 0.
    """

    shrinkage: float = SHRINKAGE

    needs = Needs("features")
    fit_needs = Needs("features", "labels")

    def learn(self, data: FitData) -> State:
        mean = mean_of(finite(data.outputs.features, "features"))
        white = whitening(scatter(data.outputs.features, mean), self.shrinkage, len(data.outputs))
        of_classes = Mahalanobis(shrinkage=self.shrinkage).learn(data)
        return {"classes": of_classes, "all": {"whitening": white, "means": mean[None] @ white}}

    def score(self, outputs: Outputs) -> Tensor:
        return nearest_distance(outputs, self.state["all"]) - nearest_distance(outputs, self.state["classes"])


def whitening(covariance: Tensor, shrinkage: float, count: int) -> Tensor:
    """V with V Vᵀ = ((1 − λ)Σ + λ·(tr Σ/D)·I)⁻¹ of the D×D covariance Σ of so many fit images.

    Raises:
        OodbenchError: there is no inverse.
    """
    size = len(covariance)
    target = covariance.trace() / size * torch.eye(size).to(covariance)
    variances, directions = torch.linalg.eigh((1 - shrinkage) * covariance + shrinkage * target)
    rank = int((variances > size * torch.finfo(torch.float64).eps * variances[-1]).sum())
    if rank < size:
        raise OodbenchError(
            f"the covariance of the {size} features around their means has rank {rank} on {count} fit "
            f"images, so it has no inverse; give more fit images, or a larger shrinkage than {shrinkage}"
        )
    return directions / variances.sqrt()


def nearest_distance(outputs: Outputs, learned: State) -> Tensor:
    """The squared Mahalanobis distance of the features to the nearest of C means, (N,)."""
    means = learned["means"]
    centre = means.mean(dim=0)
    around = means - centre
    lengths, found = around.square().sum(dim=1), []
    for block in outputs.features.split(ROWS):
        white = block.double() @ learned["whitening"]
        # ‖x − μ‖² up to ‖x‖² orders the means; how far the nearest is comes from the difference, where nothing cancels.
        nearest = torch.addmm(lengths, white - centre, around.T, alpha=-2).argmin(dim=1)
        found.append((white - means[nearest]).square().sum(dim=1))
    return torch.cat(found)


def squared_distances(outputs: Outputs, learned: State) -> Tensor:
    """N×C squared Mahalanobis distances of the features to C means."""
    white = outputs.features.double() @ learned["whitening"]
    # Not by ‖x‖² − 2x·μ + ‖μ‖², of which little may be left far from the origin.
    return torch.cdist(white, learned["means"], compute_mode="donot_use_mm_for_euclid_dist").square()
