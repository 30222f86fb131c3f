"""Virtual-logit matching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import fit_array, learned
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Vim(Detector):
    """Virtual-logit matching, Wang et al. 2022 (arXiv 2203.10807), eq. 4 and 6: log Σ_k exp z_k − α‖h^⊥‖.

    h^⊥ is what is left of h − o, o = −W⁺b, without the first D' principal directions of the fit features around o
    (uncentred); α = Σ max_k z_k / Σ‖h^⊥‖ over the fit images. The paper's score, the share of the virtual logit
    α‖h^⊥‖ in the softmax, falls strictly with this one. D' by the paper: 1,000 of D ≥ 2,048, 512 of D ≥ 768, else D/2.
    """

    dimensions: int = parameter(
        0, "D', principal dimensions, fewer than the features; 0: by the paper's rule", low=0, grid=(0, 8, 16, 32)
    )

    needs = Needs("logits", "features")
    fit_needs = Needs("logits", "features", "head")

    def learn(self, data: FitData) -> State:
        features = data.outputs.features
        values = learned(fit_array(features, "features"), features)
        weight, bias = data.outputs.head
        origin = -torch.linalg.pinv(weight) @ bias
        _, directions = torch.linalg.eigh((values - origin).T @ (values - origin))  # the least first
        size = values.shape[1]
        principal = self.dimensions or paper_dimensions(size)
        if principal >= size:
            raise OodbenchError(
                f"vim(dimensions={principal}) leaves nothing of {size} features; give fewer than {size}, or 0"
            )
        rest = directions[:, : size - principal]
        lengths = ((values - origin) @ rest).norm(dim=1)
        if not lengths.sum() > size * torch.finfo(features.dtype).eps * (values - origin).norm(dim=1).sum():
            raise OodbenchError(
                f"the fit features lie in {principal} dimensions, and vim reads the rest; give fewer dimensions"
            )
        alpha = data.outputs.logits.double().amax(dim=1).sum() / lengths.sum()
        return {"origin": origin, "rest": rest, "alpha": float(alpha)}

    def score(self, outputs: Outputs) -> Tensor:
        residual = (outputs.features.double() - self.state["origin"]) @ self.state["rest"]
        return outputs.logits.double().logsumexp(dim=1) - self.state["alpha"] * residual.norm(dim=1)


def paper_dimensions(size: int) -> int:
    """D' of D features."""
    return 1000 if size >= 2048 else 512 if size >= 768 else size // 2
