"""Deep nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import finite, normalised
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs

BLOCK = 2**18
"""Distances that are computed at once, 2 MiB, which a processor's cache holds: but of no fewer images than the next."""

LEAST_ROWS = 64
"""A large bank is read from memory once for so many images, or reading it takes longer than the products."""


def rows_at_once(bank: Tensor) -> int:
    """How many images are compared with all of a bank's at once."""
    return max(LEAST_ROWS, BLOCK // len(bank))


@dataclass(frozen=True)
class NearestNeighbours(Detector):
    """Deep nearest neighbours, Sun et al. 2022 (arXiv 2204.06507): −‖z* − z_(k)‖₂.

    z = h/‖h‖₂ of the penultimate features, z_(k) the k-th nearest among those of all ID fit images; exact. A feature
    vector of zeros stays one, at distance 1 from every other. The paper's k is 50 for the 50,000 images of CIFAR-10
    and 1,000 for ImageNet's 1.3 million.
    """

    k: int = parameter(50, "which of the nearest fit images counts", low=1, grid=(1, 5, 10, 20, 50, 100, 200, 500))

    needs = Needs("features")
    fit_needs = Needs("features")

    def learn(self, data: FitData) -> State:
        features = data.outputs.features
        if self.k > len(features):
            raise OodbenchError(
                f"knn(k={self.k}) needs {self.k} fit images or more, but got {len(features)}; "
                f"give more fit images, or a smaller k"
            )
        return {"bank": normalised(finite(features, "features"))}

    def score(self, outputs: Outputs) -> Tensor:
        bank = self.state["bank"]
        squares = torch.linalg.vector_norm(bank, dim=1).square()
        blocks = normalised(outputs.features).split(rows_at_once(bank))
        return -torch.cat([self._distances(block, bank, squares) for block in blocks])

    def _distances(self, points: Tensor, bank: Tensor, squares: Tensor) -> Tensor:
        # ‖z − b‖² up to ‖z‖² orders the bank; the k-th distance is then taken from the difference, in which nothing
        # cancels, so that duplicates of fit images are at 0 in every batch.
        order = torch.addmm(squares, points, bank.T, alpha=-2).topk(self.k, dim=1, largest=False).indices
        return (points - bank[order[:, -1]]).norm(dim=1)
