"""Simplified Hopfield energy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.fitting import finite, mean_of, right_ones
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class HopfieldEnergy(Detector):
    """Simplified Hopfield energy (SHE), Zhang et al. 2023 (ICLR, modern Hopfield energy): h · S_ŷ.

    S_c is the mean of the penultimate features h of the fit images of class c that are classified right. A class of
    which none is has no pattern; an image that is predicted to be of it is compared with the mean over all that are
    right, and the card names the class.
    """

    needs = Needs("logits", "features")
    fit_needs = Needs("logits", "features", "labels")

    def learn(self, data: FitData) -> State:
        features = finite(data.outputs.features, "features")
        right, predicted = right_ones(data, "she")
        of_class = [right & (predicted == one) for one in range(data.outputs.logits.shape[1])]
        patterns = torch.stack([mean_of(features[own if own.any() else right]) for own in of_class])
        return {"patterns": patterns, "classes never right": [k for k, own in enumerate(of_class) if not own.any()]}

    def score(self, outputs: Outputs) -> Tensor:
        return (outputs.features.double() * self.state["patterns"][outputs.logits.argmax(dim=1)]).sum(dim=1)
