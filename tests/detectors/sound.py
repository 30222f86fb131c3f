"""Detectors of the tests' own, all of them correct: what the contract must take, and specs must name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Nearest(Detector):
    """Minus the distance to the k-th nearest of the fit features, all normalised."""

    k: int = parameter(50, "which neighbour", low=1, high=100)

    needs = Needs("features")
    fit_needs = Needs("features")

    def learn(self, data: FitData) -> State:
        return {"bank": torch.nn.functional.normalize(data.outputs.features.double())}

    def score(self, outputs: Outputs) -> Tensor:
        distances = torch.cdist(
            torch.nn.functional.normalize(outputs.features.double()),
            self.state["bank"],
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        return -distances.kthvalue(self.k, dim=1).values


@dataclass(frozen=True)
class Columns(Detector):
    """Energy around the mean fit logits of some classes, kept as a view of every other column."""

    step: int = parameter(1, "of which classes", low=1, high=2, grid=(1, 2))

    fit_needs = Needs("logits")

    def learn(self, data: FitData) -> State:
        return {"some": data.outputs.logits.double()[:, :: self.step], "of": {"rows": data.outputs.logits.T}}

    def score(self, outputs: Outputs) -> Tensor:
        means = self.state["some"].mean(dim=0)
        return (outputs.logits.double()[:, :: self.step] - means).logsumexp(dim=1) + self.state["of"]["rows"][0, 0]


@dataclass(frozen=True)
class Wrapper(Detector):
    """Another detector, on the network whose features are clipped at a percentile of theirs."""

    base: Detector = parameter("energy", "the detector of the clipped network")
    percentile: float = parameter(90.0, "of the fit features", low=0, high=100, grid=(85.0, 90.0, 95.0))

    @property
    def needs(self) -> Needs:
        return Needs("features", "head") | self._inner().needs

    @property
    def fit_needs(self) -> Needs:
        return Needs("features", "head") | self.base.fit_needs

    def learn(self, data: FitData) -> State:
        limit = torch.quantile(data.outputs.features.double(), self.percentile / 100)
        inner = self.base.fit(data.edited({"features": lambda values: values.clamp(max=float(limit))}))
        return {"limit": limit, "base": inner.state}

    def score(self, outputs: Outputs) -> Tensor:
        limit = float(self.state["limit"])
        return self._inner()(outputs.edited({"features": lambda values: values.clamp(max=limit)}))

    def _inner(self) -> Detector:
        return self.base.with_state(self.state["base"]) if self.fitted else self.base


@dataclass(frozen=True)
class Brightness(Detector):
    """How near an image's mean pixel is to that of the fit images: it knows pixels alone."""

    control = True
    needs = Needs("images")
    fit_needs = Needs("images")

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        return {"mean": outputs.images.double().mean(dim=(1, 2, 3))}

    def learn(self, data: FitData) -> State:
        return {"mean": data.reduced["mean"].mean()}

    def score(self, outputs: Outputs) -> Tensor:
        return -(outputs.images.double().mean(dim=(1, 2, 3)) - self.state["mean"]).abs()
