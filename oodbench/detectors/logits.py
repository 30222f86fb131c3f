"""Detectors on the logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.outputs import Outputs


@dataclass(frozen=True)
class MaxLogit(Detector):
    """The largest logit, Hendrycks et al. 2022 (arXiv 1911.11132), section 3."""

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits.double().amax(dim=1)


@dataclass(frozen=True)
class Energy(Detector):
    """Negative free energy, Liu et al. 2020 (arXiv 2010.03759), eq. 4: T·logsumexp(z/T)."""

    temperature: float = parameter(
        1.0, "temperature T of the logits", low=1e-6, high=1e9, grid=(0.5, 1.0, 2.0, 5.0, 10.0, 100.0)
    )

    def score(self, outputs: Outputs) -> Tensor:
        return self.temperature * (outputs.logits.double() / self.temperature).logsumexp(dim=1)
