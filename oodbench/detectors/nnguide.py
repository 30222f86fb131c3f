"""Nearest-neighbour guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import drawn, finite, normalised
from oodbench.detectors.knn import rows_at_once
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class NearestNeighbourGuidance(Detector):
    """Nearest-neighbour guidance, Park, Jung & Teoh 2023 (arXiv 2309.14888): S(x)·G(x).

    S is the energy logsumexp z, and G the mean of the k largest cos(h, h_i)·S(x_i) over a bank of fit images i, h
    being penultimate features; those of length 0 are at cosine 0. The paper's bank is 1 % of ImageNet's train set,
    12,812 images; OpenOOD's k is 100.
    """

    k: int = parameter(10, "how many of the nearest fit images guide", low=1, grid=(1, 5, 10, 50, 100))
    bank: int = parameter(
        10_000, "fit images in the bank, drawn; all, where there are fewer", low=1, grid=(100, 10_000)
    )

    needs = Needs("logits", "features")
    fit_needs = Needs("logits", "features")

    def learn(self, data: FitData) -> State:
        chosen = drawn(len(data.outputs), self.bank)
        if self.k > len(chosen):
            raise OodbenchError(
                f"nnguide(k={self.k}) needs a bank of {self.k} fit images or more, but got {len(chosen)}; "
                f"give more fit images, a larger bank, or a smaller k"
            )
        features = finite(data.outputs.features[chosen], "features")
        energy = finite(data.outputs.logits[chosen], "logits").double().logsumexp(dim=1, keepdim=True)
        return {"bank": normalised(features) * energy}

    def score(self, outputs: Outputs) -> Tensor:
        bank = self.state["bank"]
        blocks = normalised(outputs.features).split(rows_at_once(bank))
        guidance = torch.cat([(block @ bank.T).topk(self.k, dim=1).values.mean(dim=1) for block in blocks])
        return outputs.logits.double().logsumexp(dim=1) * guidance
