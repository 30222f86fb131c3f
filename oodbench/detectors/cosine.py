"""Cosine to the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.fitting import class_labels, class_means, finite, normalised
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Cosine(Detector):
    """max_c cos(h, μ_c): h are the penultimate features, μ_c their mean over the fit images of class c.

    Features of length 0 are at cosine 0. Techapanurak, Suganuma & Okatani 2020 (arXiv 1905.10628) train networks for
    such a score; this one reads any.
    """

    needs = Needs("features")
    fit_needs = Needs("features", "labels")

    def learn(self, data: FitData) -> State:
        classes, labels = class_labels(data, "cosine").unique(return_inverse=True)
        means = class_means(finite(data.outputs.features, "features"), labels, len(classes))
        return {"directions": normalised(means)}

    def score(self, outputs: Outputs) -> Tensor:
        return (normalised(outputs.features) @ self.state["directions"].T).amax(dim=1)
