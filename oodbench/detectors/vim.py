"""Virtual-logit matching, and the residual that it reads alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import ROWS, finite, scatter
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs

DIMENSIONS = parameter(
    0, "D', principal dimensions, fewer than the features; 0: by the paper's rule", low=0, grid=(0, 8, 16, 32)
)


@dataclass(frozen=True)
class Vim(Detector):
    """Virtual-logit matching, Wang et al. 2022 (arXiv 2203.10807), eq. 4 and 6: log Σ_k exp z_k − α‖h^⊥‖.

    h^⊥ is what is left of h − o, o = −W⁺b, without the first D' principal directions of the fit features around o
    (uncentred); α = Σ max_k z_k / Σ‖h^⊥‖ over the fit images. The paper's score, the share of the virtual logit
    α‖h^⊥‖ in the softmax, falls strictly with this one. D' by the paper: 1,000 of D ≥ 2,048, 512 of D ≥ 768, else D/2.
    """

    dimensions: int = DIMENSIONS

    needs = Needs("logits", "features")
    fit_needs = Needs("logits", "features", "head")

    def learn(self, data: FitData) -> State:
        subspace = rest_of(data.outputs, self.dimensions, "vim")
        total = sum(float(lengths(block, subspace).sum()) for block in data.outputs.features.split(ROWS))
        return subspace | {"alpha": float(data.outputs.logits.double().amax(dim=1).sum()) / total}

    def score(self, outputs: Outputs) -> Tensor:
        virtual = self.state["alpha"] * lengths(outputs.features, self.state)
        return outputs.logits.double().logsumexp(dim=1) - virtual


@dataclass(frozen=True)
class Residual(Detector):
    """Residual, Wang et al. 2022 (arXiv 2203.10807): −‖h^⊥‖, see `Vim`."""

    dimensions: int = DIMENSIONS

    needs = Needs("features")
    fit_needs = Needs("features", "head")

    def learn(self, data: FitData) -> State:
        return rest_of(data.outputs, self.dimensions, "residual")

    def score(self, outputs: Outputs) -> Tensor:
        return -lengths(outputs.features, self.state)


def rest_of(outputs: Outputs, dimensions: int, owner: str) -> dict[str, Tensor]:
    """The origin o, and the D − D' directions that the principal ones leave: D×(D − D').

    Raises:
        OodbenchError: they leave none, or none in which the fit features differ.
    """
    features, (weight, bias) = finite(outputs.features, "features"), outputs.head
    size = features.shape[1]
    principal = dimensions or paper_dimensions(size)
    if principal >= size:
        raise OodbenchError(
            f"{owner}(dimensions={principal}) leaves nothing of {size} features; give fewer than {size}, or 0"
        )
    origin = -torch.linalg.pinv(weight) @ bias
    around = scatter(features, origin)
    _, directions = torch.linalg.eigh(around)  # the least first
    subspace = {"origin": origin, "rest": directions[:, : size - principal]}
    left = sum(float(lengths(block, subspace).square().sum()) for block in features.split(ROWS)) / len(features)
    if not left > (size * torch.finfo(features.dtype).eps) ** 2 * float(around.trace()):
        raise OodbenchError(
            f"the fit features lie in {principal} dimensions, and {owner} reads the rest; give fewer dimensions"
        )
    return subspace


def lengths(features: Tensor, subspace: State) -> Tensor:
    """‖h^⊥‖ of N×D features, float64 (N,)."""
    return ((features.double() - subspace["origin"]) @ subspace["rest"]).norm(dim=1)


def paper_dimensions(size: int) -> int:
    """D' of D features."""
    return 1000 if size >= 2048 else 512 if size >= 768 else size // 2
