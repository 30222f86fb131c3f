"""Mahalanobis distances of all layers, weighted."""

from __future__ import annotations

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
        compared = data.validation or proxy_sets(data, PROXIES)
        layers = {name: data.outputs.layer(name) for name in data.outputs.layer_names}
        of_id, of_ood = [], []
        for name, values in layers.items():
            first = self._gaussian(values[used], labels[used])
            of_id.append(_scores(first, values[apart]))
            of_ood.append(torch.cat([_scores(first, one.layer(name)) for one in compared.values()]))
        weights = self._weights(torch.stack(of_id, dim=1), torch.stack(of_ood, dim=1))
        return {
            "weights": dict(zip(layers, weights.tolist(), strict=True)),
            "layers": {name: self._gaussian(values, labels).state for name, values in layers.items()},
        }

    def score(self, outputs: Outputs) -> Tensor:
        layers, one = self.state["layers"], Mahalanobis(self.shrinkage)
        scores = [_scores(one.with_state(learned), outputs.layer(name)) for name, learned in layers.items()]
        distances = torch.stack(scores, dim=1)
        return distances @ distances.new_tensor([self.state["weights"][name] for name in layers])

    def _gaussian(self, values: Tensor, labels: Tensor) -> Mahalanobis:
        one = Mahalanobis(self.shrinkage)
        return one.with_state(one.learn(FitData(Outputs({"features": values}), labels)))

    def _weights(self, of_id: Tensor, of_ood: Tensor) -> np.ndarray:
        both = fit_array(torch.cat([of_id, of_ood]), "Mahalanobis distances")
        spread = both.std(axis=0)
        spread[spread == 0] = 1
        model = LogisticRegression(C=self.C, class_weight="balanced", max_iter=10_000)
        model.fit((both - both.mean(axis=0)) / spread, np.arange(len(both)) < len(of_id))
        weights: np.ndarray = model.coef_[0] / spread
        return weights


def _scores(gaussian: Mahalanobis, values: Tensor) -> Tensor:
    """M_l, (N,)."""
    return gaussian.score(Outputs({"features": values}))
