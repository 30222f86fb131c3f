"""AdaSCALE: another detector, on a network whose features are scaled by a percentile of each image's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import refuse_base
from oodbench.detectors.shaping import largest, precise, share_of_largest
from oodbench.errors import OodbenchError
from oodbench.outputs import Change, FitData, Needs, Outputs


@dataclass(frozen=True, eq=False)
class SharpenEach:
    """h·exp(r), r = Σh over the sum of its largest values, of a number of its own for each image of a batch."""

    percentiles: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        features = precise(features)
        size = features.shape[1]
        counts = (size - (size * self.percentiles.to(features.device) / 100).round()).long().clamp(min=1)
        # Behind a small batch copies of its last image fill the pass.
        images = torch.arange(len(features), device=counts.device).clamp(max=len(counts) - 1)
        return features * share_of_largest(features, counts[images]).exp()


@dataclass(frozen=True)
class AdaScale(Detector):
    """AdaSCALE-A, Regmi 2025 (arXiv 2503.08023): SCALE, at a percentile that falls with how far features shift.

    x' = x + ε·sign(g) on the values of least |g|, g = ∇_x max z; h' are its features. Q' = λ·Σ|h − h'| over the largest
    of h, plus Σ relu(h') over more of these, is to be high for OOD; p = p_min + (1 − F(Q'))(p_max − p_min), F being its
    distribution on the ID fit images. The features are h·exp(r), r = Σh / Σ of the largest, by p (see `scale`). The
    authors' ε is 0.5 of normalised pixels: 0.11 of pixels in [0, 1] by ImageNet's deviation of 0.225.
    """

    base: Detector = parameter("energy", "the detector of the network with scaled features")
    low: float = parameter(75.0, "p_min, in %", low=0.0, high=100.0, grid=(60.0, 65.0, 70.0, 75.0, 80.0))
    high: float = parameter(85.0, "p_max, in %", low=0.0, high=100.0, grid=(80.0, 85.0, 90.0, 95.0, 99.0))
    epsilon: float = parameter(
        0.11, "ε, how far pixels in [0, 1] move", low=0.0, high=1.0, grid=(0.01, 0.05, 0.11, 0.2)
    )
    moved: float = parameter(0.05, "share of the pixels' values that move", low=1e-6, high=1.0, grid=(0.01, 0.05, 0.2))
    correction: float = parameter(
        5.0,
        "share of the features, the largest, whose h' are added up, in %",
        low=0.0,
        high=100.0,
        grid=(1.0, 5.0, 20.0),
    )
    shifted: float = parameter(
        1.0, "share of the features, the largest, whose shift counts, in %", low=0.0, high=100.0, grid=(1.0, 5.0, 20.0)
    )
    weight: float = parameter(10.0, "λ, weight of the shift", low=0.0, high=1e6, grid=(1.0, 10.0, 100.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise OodbenchError(f"adascale: low is {self.low:g}, above high, {self.high:g}; give a smaller one")
        compares = bool(self.base.fit_needs.named("proxy") | self.base.fit_needs.named("validation-proxy"))
        reasons = {"learns from batches of the network as it is": self.base.reduces, "learns from other sets": compares}
        refuse_base(self, self.base, reasons)

    @property
    def needs(self) -> Needs:
        return Needs("logits", "features", "head", "images", "gradient") | self._fitted_base.needs

    @property
    def fit_needs(self) -> Needs:
        return Needs("logits", "features", "head", "images", "gradient") | self.base.fit_needs

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        return {"statistic": self._statistic(outputs)}

    def learn(self, data: FitData) -> State:
        known = data.reduced["statistic"].sort().values
        change = self._change(known, data.reduced["statistic"])
        base = self.base.fit(data._replace(outputs=data.outputs.edited(change)))
        return {"statistic": known, "base": base.state}

    def score(self, outputs: Outputs) -> Tensor:
        change = self._change(self.state["statistic"], self._statistic(outputs))
        return self._fitted_base.score(outputs.edited(change))

    @property
    def _fitted_base(self) -> Detector:
        return self.base.with_state(self.state["base"]) if self.fitted else self.base

    def _change(self, known: Tensor, statistic: Tensor) -> Mapping[str, Change]:
        below = torch.searchsorted(known, statistic, right=True).double() / len(known)
        return {"features": SharpenEach(self.low + (1 - below) * (self.high - self.low))}

    def _statistic(self, outputs: Outputs) -> Tensor:
        """Q', float64 (N,)."""
        gradient = outputs.gradient(top_logit).flatten(1)
        steady = gradient.abs().sort(dim=1, stable=True).indices[:, : max(1, int(gradient.shape[1] * self.moved))]
        step = torch.zeros_like(gradient).scatter(1, steady, gradient.sign().gather(1, steady))
        moved = outputs.forward(outputs.images + self.epsilon * step.view_as(outputs.images))
        before, after = outputs.features.double(), moved.features.double()
        shift = self._over_largest(before, (before - after).abs(), self.shifted)
        return self._over_largest(before, after.relu(), self.correction) + self.weight * shift

    def _over_largest(self, features: Tensor, values: Tensor, share: float) -> Tensor:
        _, places = largest(features, max(1, int(features.shape[1] * share / 100)))
        return values.gather(1, places).sum(dim=1)


def top_logit(outputs: Outputs) -> Tensor:
    """max z."""
    return outputs.logits.amax(dim=1)
