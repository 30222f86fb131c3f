"""Mahalanobis distances of all layers, weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import class_labels, fit_array, held_out, proxy_sets
from oodbench.detectors.mahalanobis import Mahalanobis
from oodbench.detectors.oodl import PROXIES
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class MahalanobisLayers(Detector):
    """Feature ensemble of Mahalanobis distances, Lee et al. 2018 (arXiv 1807.03888), algorithm 1: Σ_l α_l M_l(x).

    M_l = −min_c (f_l − μ_lc)ᵀ Σ_l⁻¹ (f_l − μ_lc) of each candidate layer's output averaged over space, as `mahalanobis`
    has it. The weights α_l are those of a logistic regression of a held-out fifth of the fit images, whom the Gaussians
    have then not seen, against the validation sets that the user named, or else against proxies made from ID; they
    stand in the state. The Gaussians are then fitted on all. The paper's step is `perturb(base=mahalanobis_layers)`, up
    the gradient of the sum, where the paper steps for each layer apart.
    """

    shrinkage: float = parameter(
        1e-6,
        "λ, how far each Σ is shrunk towards a multiple of the identity",
        low=0.0,
        high=1.0,
        grid=(1e-6, 1e-4, 1e-2, 0.1),
    )
    C: float = parameter(
        1.0,
        "inverse strength of the regression's L2 penalty, in scikit-learn's sense",
        low=1e-9,
        high=1e9,
        grid=(0.01, 0.1, 1.0, 10.0),
    )

    needs = Needs("layer:*")
    fit_needs = Needs("layer:*", "labels", *(f"validation-proxy:{name}" for name in PROXIES))

    def learn(self, data: FitData) -> State:
        labels = class_labels(data, "mahalanobis_layers")
        apart, used = held_out(len(data.outputs), "mahalanobis_layers weighs its layers")
        first = self._gaussians(data.outputs.select(used), labels[used])
        compared = data.validation or proxy_sets(data, PROXIES)
        others = [self._distances(first, one) for one in compared.values()]
        weights = self._weights(self._distances(first, data.outputs.select(apart)), torch.cat(others))
        names = data.outputs.layer_names
        return {
            "weights": dict(zip(names, weights.tolist(), strict=True)),
            "layers": self._gaussians(data.outputs, labels),
        }

    def score(self, outputs: Outputs) -> Tensor:
        distances = self._distances(self.state["layers"], outputs)
        return distances @ distances.new_tensor([self.state["weights"][name] for name in self.state["layers"]])

    def _gaussians(self, outputs: Outputs, labels: Tensor) -> dict[str, State]:
        layers = {name: Outputs({"features": outputs.layer(name)}) for name in outputs.layer_names}
        return {name: Mahalanobis(self.shrinkage).learn(FitData(one, labels)) for name, one in layers.items()}

    def _distances(self, gaussians: Mapping[str, State], outputs: Outputs) -> Tensor:
        """M_l, N×L."""
        one = Mahalanobis(self.shrinkage)
        columns = [
            one.with_state(learned).score(Outputs({"features": outputs.layer(name)}))
            for name, learned in gaussians.items()
        ]
        return torch.stack(columns, dim=1)

    def _weights(self, of_id: Tensor, of_ood: Tensor) -> np.ndarray:
        both = fit_array(torch.cat([of_id, of_ood]), "Mahalanobis distances")
        spread = both.std(axis=0)
        spread[spread == 0] = 1
        model = LogisticRegression(C=self.C, class_weight="balanced", max_iter=10_000)
        model.fit((both - both.mean(axis=0)) / spread, np.arange(len(both)) < len(of_id))
        weights: np.ndarray = model.coef_[0] / spread
        return weights
