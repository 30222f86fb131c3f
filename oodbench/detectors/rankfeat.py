"""RankFeat: another detector, on a network whose maps have lost their first singular component."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.detectors.fitting import refuse_base
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class WithoutRankOne:
    """X − s₁u₁v₁ᵀ of each image's maps as a C×HW matrix."""

    iterations: int

    def __call__(self, maps: Tensor) -> Tensor:
        matrices = maps.flatten(2)
        if self.iterations == 0:
            first = torch.linalg.svd(matrices, full_matrices=False).Vh[:, :1].mT
        else:
            # From ones, which maps after a ReLU are never orthogonal to.
            first = torch.ones_like(matrices[:, :1]).mT
            for _ in range(self.iterations):
                first = torch.nn.functional.normalize(matrices.mT @ (matrices @ first), dim=1)
        # s₁u₁ = X v₁
        return (matrices - matrices @ first @ first.mT).view_as(maps)


@dataclass(frozen=True)
class RankFeat(Detector):
    """RankFeat, Song, Sebe & Wang 2022 (arXiv 2209.08590): X − s₁u₁v₁ᵀ.

    The base detector on the network in which a layer's maps X (C×HW) have lost their first singular component, which
    is large for OOD images. The paper's RankFeat on block 4; it can average the logits with block 3's.
    """

    base: Detector = parameter("energy", "the detector of the network with the other maps")
    layer: str = parameter("last", "a candidate layer with maps, or last")
    iterations: int = parameter(
        0, "power iterations for the first singular component; 0: exact", low=0, high=10_000, grid=(0, 5, 20, 100)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        learns, gradient = self.base.learns(), "gradient" in self.base.needs
        refuse_base(self, self.base, {"learns, on stored outputs": learns, "reads a gradient": gradient})

    @property
    def needs(self) -> Needs:
        return Needs("live") | self.base.needs

    def score(self, outputs: Outputs) -> Tensor:
        return self.base.score(outputs.edited({f"maps:{self.layer}": WithoutRankOne(self.iterations)}))
