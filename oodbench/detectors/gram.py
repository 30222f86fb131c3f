"""Gram matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import fit_array
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Gram(Detector):
    """Gram matrices, Sastry & Oore 2020 (arXiv 1912.12510): −Σ_l δ_l(x)/E[δ_l].

    Of a layer's maps F (C×HW) the row sums of the Gram matrices of order p are read, as in the authors' code:
    sign(r)·|r|^(1/p), r = Σ_j (F^p F^pᵀ)_ij. δ_l sums how far they lie outside the extremes of the fit images of the
    same predicted class (of all, where there is none), relative to these. E[δ_l] is its mean on a drawn tenth of the
    fit images, which the extremes leave out; 1 where that is 0 or empty.
    """

    orders: int = parameter(10, "P, Gram matrices of the orders 1, …, P", low=1, high=20, grid=(1, 3, 5, 10))
    needs = fit_needs = Needs("logits", "maps:*")

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        return {name: self._row_sums(outputs.maps(name)) for name in outputs.map_names}

    def learn(self, data: FitData) -> State:
        predicted = torch.from_numpy(fit_array(data.outputs.logits, "logits").argmax(axis=1))
        order = torch.randperm(len(predicted), generator=torch.Generator().manual_seed(0))
        held_out, used = order[: len(order) // 10], order[len(order) // 10 :]
        layers = {}
        for name, sums in data.reduced.items():
            of_class = [used[predicted[used] == k] for k in range(data.outputs.logits.shape[1])]
            ends = [torch.aminmax(sums[chosen if len(chosen) else used], dim=0) for chosen in of_class]
            bounds = {"low": torch.stack([one.min for one in ends]), "high": torch.stack([one.max for one in ends])}
            expected = _deviation(sums[held_out], predicted[held_out], bounds).mean()
            layers[name] = bounds | {"expected": expected if expected > 0 else torch.ones_like(expected)}
        return {"layers": layers}

    def score(self, outputs: Outputs) -> Tensor:
        predicted, sums, learned = outputs.logits.argmax(dim=1), self.reduce(outputs), self.state["layers"]
        parts = [_deviation(sums[name], predicted, one) / one["expected"] for name, one in learned.items()]
        return -torch.stack(parts).sum(dim=0)

    def _row_sums(self, maps: Tensor) -> Tensor:
        flat = maps.double().flatten(2)
        sums = torch.stack([torch.einsum("nis,njs->ni", f, f) for f in accumulate([flat] * self.orders, torch.mul)], 1)
        return sums.sign() * sums.abs() ** (1 / torch.arange(1, self.orders + 1).to(sums)[:, None])


def _deviation(sums: Tensor, predicted: Tensor, bounds: Mapping[str, Tensor]) -> Tensor:
    """How far N×P×C values lie outside the bounds of their class, relative to these, summed: (N,)."""
    low, high = bounds["low"][predicted], bounds["high"][predicted]
    return ((low - sums).relu() / (low + 1e-6).abs() + (sums - high).relu() / (high + 1e-6).abs()).sum(dim=(1, 2))
