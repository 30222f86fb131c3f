"""Detectors that read another one on a network whose features are shaped, and what shapes have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import refuse_base
from oodbench.outputs import Change, FitData, Needs, Outputs


@dataclass(frozen=True)
class Shaping(Detector):
    """The base detector, fitted and scoring on the network with other penultimate features or another head."""

    base: Detector = parameter("energy", "the detector of the network with shaped features")

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_base(self, self.base, {"learns from batches of the network as it is": self.base.reduces})

    @property
    def needs(self) -> Needs:
        return Needs("features", "head") | self._fitted_base.needs

    @property
    def fit_needs(self) -> Needs:
        return Needs("features", "head") | self.base.fit_needs

    def measure(self, data: FitData) -> State:
        """What the shape takes of the ID fit images."""
        return {}

    @abstractmethod
    def changes(self, measured: State) -> Mapping[str, Change]:
        """What becomes of the `features`, or of the `head`."""

    def learn(self, data: FitData) -> State:
        measured = self.measure(data)
        # The outputs of the other network are some times as large as the features; a base that learns nothing is shown
        # one image, by which a network that cannot be shaped is refused.
        shown = data if self.base.learns() else FitData(data.outputs.select(slice(1)))
        return {**measured, "base": self.base.fit(shown.edited(self.changes(measured))).state}

    def score(self, outputs: Outputs) -> Tensor:
        return self._fitted_base.score(outputs.edited(self.changes(self.state)))

    @property
    def _fitted_base(self) -> Detector:
        """The base; once this is fitted, so is it."""
        return self.base.with_state(self.state["base"]) if self.fitted else self.base


def pruned_count(size: int, percentile: float) -> int:
    """How many of the largest of `size` values are left once that share of them, in %, is pruned: one or more.

    The count is exact, as in the authors' codes; which of equal values is left is decided by their order.
    """
    return max(1, size - round(size * percentile / 100))


def largest(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row and their places, by a stable sort: the same in any batch."""
    values, places = features.sort(dim=1, descending=True, stable=True)
    return values[:, :count], places[:, :count]


def share_of_largest(features: Tensor, counts: int | Tensor) -> Tensor:
    """Σ relu(h) / Σ of the `counts` largest, N×1, in [1, D/count]; 1 where all are zero.

    The ReLU is of no effect on features that are not negative; of others the ratio could be anything.

    Args:
        counts: for all, or of each row.
    """
    positive = features.relu()
    cumulative = positive.sort(dim=1, descending=True).values.cumsum(dim=1)
    last = torch.as_tensor(counts, device=features.device).expand(len(features))[:, None] - 1
    whole, part = cumulative[:, -1:], cumulative.gather(1, last)
    # Where there is nothing, a gradient by 0/0 is kept out, too.
    return torch.where(part > 0, whole / torch.where(part > 0, part, 1), torch.ones_like(whole))


def precise(features: Tensor) -> Tensor:
    """float64 where there is one."""
    return features if features.device.type == "mps" else features.double()
