"""Learned confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.outputs import Outputs


@dataclass(frozen=True)
class Confidence(Detector):
    """The confidence c that a classifier learned to give itself, DeVries & Taylor 2018 (arXiv 1802.04865).

    It reads a classifier of its own, which `oodbench.recipes.confidence` trains on the ID fit images; the last of
    its K+1 outputs is log(c/(1 − c)), which is the score: it ranks as c does and does not saturate. Without the
    paper's optional step against the input gradient (section 2.5).
    """

    reads: ClassVar[str | None] = "confidence"

    budget: float = parameter(0.3, "β, the mean of −log c in training", low=1e-3, high=100.0, training=True)
    seed: int = parameter(0, "of its classifier's training", low=0, high=2**31, training=True)

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits[:, -1].double()
