"""Monte-Carlo dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.detectors.ensemble import MEASURES, agreement
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class MonteCarloDropout(Detector):
    """Monte-Carlo dropout, Gal & Ghahramani 2016 (arXiv 1506.02142): p̄ = mean_s softmax(z(x, mask_s)).

    The network's dropout layers drop in S further passes, each image by masks of its own pixels and the seed. The
    score is the largest p̄, as log-odds, the mean log-odds, or the negative mutual information of answer and mask: see
    `agreement`.
    """

    samples: int = parameter(30, "S, passes with dropout", low=1, high=10_000, grid=(10, 30, 100))
    measure: str = parameter("max_probability", "what is read of the samples' probabilities", choices=MEASURES)
    seed: int = parameter(0, "of the masks", low=0, high=2**31)

    needs = Needs("live", "dropout")

    @property
    def passes(self) -> float:
        return self.samples

    def score(self, outputs: Outputs) -> Tensor:
        passes = (outputs.forward(dropout=self.seed * self.samples + number) for number in range(self.samples))
        return agreement(torch.stack([one.logits for one in passes]), self.measure)
