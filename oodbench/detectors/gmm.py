"""Gaussian mixture of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import class_labels, class_means, finite, scatter
from oodbench.detectors.mahalanobis import SHRINKAGE, squared_distances, whitening
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class GaussianMixture(Detector):
    """log Σ_c π_c N(h; μ_c, Σ_c), the log-density of the penultimate features h under one Gaussian a class.

    π_c is the class's share of the fit images. The covariance is one for all classes, as in Lee et al. 2018 (arXiv
    1807.03888), whose nearest class the sum takes the place of, or each class's own, as in pytorch-ood; shrunk as in
    `Mahalanobis`. OpenOOD instead fits clusters, without labels.
    """

    covariance: str = parameter(
        "tied", "covariance: tied, one for all classes; own, one for each", choices=("tied", "own")
    )
    shrinkage: float = SHRINKAGE

    needs = Needs("features")
    fit_needs = Needs("features", "labels")

    def learn(self, data: FitData) -> State:
        features = finite(data.outputs.features, "features")
        classes, labels = class_labels(data, "gmm").unique(return_inverse=True)
        means = class_means(features, labels, len(classes))
        components = {}
        if self.covariance == "tied":
            components["all"] = self._component(scatter(features, means, labels), means, len(features))
        else:
            for one, mean in enumerate(means):
                own = features[labels == one]
                components[str(one)] = self._component(scatter(own, mean), mean[None], len(own))
        return {"log_shares": (labels.bincount().double() / len(labels)).log(), "components": components}

    def _component(self, covariance: Tensor, means: Tensor, count: int) -> State:
        white = whitening(covariance, self.shrinkage, count)
        # −½ log |2πΣ|: the columns of the whitening are as long as one over a standard deviation.
        constant = float(white.norm(dim=0).log().sum()) - len(white) / 2 * log(2 * pi)
        return {"whitening": white, "means": means @ white, "constant": constant}

    def score(self, outputs: Outputs) -> Tensor:
        learned = self.state["components"]
        # Not the order of a dictionary that was read from a file.
        order = ["all"] if "all" in learned else [str(one) for one in range(len(learned))]
        parts = [learned[one]["constant"] - squared_distances(outputs, learned[one]) / 2 for one in order]
        return (torch.cat(parts, dim=1) + self.state["log_shares"]).logsumexp(dim=1)
