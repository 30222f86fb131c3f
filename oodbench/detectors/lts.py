"""LTS: another detector, on a network whose logits are scaled, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import State, parameter
from oodbench.detectors.shaping import Shaping, precise, pruned_count, share_of_largest
from oodbench.outputs import Change, Head


class ScaledHead(Head):
    """r²·(W h + b), r = Σh over the sum of its largest values."""

    percentile: float

    def __call__(self, features: Tensor) -> Tensor:
        features = precise(features)
        share = share_of_largest(features, pruned_count(features.shape[1], self.percentile))
        return share.square() * super().__call__(features)


@dataclass(frozen=True)
class ScaleLogits:
    """The head with its logits scaled."""

    percentile: float

    def __call__(self, head: Head) -> Head:
        scaled = ScaledHead(*head)
        scaled.percentile = self.percentile
        return scaled


@dataclass(frozen=True)
class Lts(Shaping):
    """Logit scaling, Djurisic, Liu & Nikolić 2024 (arXiv 2409.01175): r²·(W h + b), r = Σh / Σ of the largest of h.

    The largest are an exact count of each image's features, the paper's p = 5 %. Negative ones count as 0 in both
    sums, as in the authors' code; r is 1 where all are 0. Of the head, a base that reads it sees W and b as they are.
    """

    percentile: float = parameter(
        95.0,
        "share of the features left out of the lower sum, in %",
        low=0.0,
        high=100.0,
        grid=(80.0, 85.0, 90.0, 95.0, 99.0),
    )

    def changes(self, measured: State) -> Mapping[str, Change]:
        return {"head": ScaleLogits(self.percentile)}
