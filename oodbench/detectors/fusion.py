"""Fusion: several detectors as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import held_out, refuse_base
from oodbench.detectors.spec import Detectors
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Fusion(Detector):
    """The mean of several detectors' scores, each made comparable by what it gives ID images, and by these alone.

    z: (s − mean)/deviation of the ID scores. rank: the share of the ID scores below s, ties counted half; it does not
    tell apart what is below, or above, them all. The ID scores are those of a drawn fifth of the fit images, which
    detectors fitted on the rest give them; the detectors that score are fitted on all. One that reads the batch itself,
    as `odin` does, takes part if it learns nothing.
    """

    detectors: Detectors = parameter(
        "energy+knn",
        "the detectors, joined by +",
        grid=("energy+knn", "maxlogit+knn", "energy+mahalanobis", "energy+knn+vim"),
    )
    by: str = parameter("z", "what is averaged: z-scores, or ranks among ID images", choices=("z", "rank"))

    def __post_init__(self) -> None:
        if not isinstance(self.detectors, str | Detectors):
            given = (Detector.from_text(one) if isinstance(one, str) else one for one in self.detectors)
            object.__setattr__(self, "detectors", Detectors(given))
        super().__post_init__()
        if len(set(self.detectors)) < max(2, len(self.detectors)):
            raise OodbenchError(f"fusion takes two detectors or more, each once, not '{self.detectors}'; name others")
        for one in self.detectors:
            refuse_base(self, one, {"learns and reads the batch itself": one.learns() and one.needs.live})

    @property
    def needs(self) -> Needs:
        return reduce(or_, (one.needs for one in self._members()))

    @property
    def fit_needs(self) -> Needs:
        return reduce(or_, (one.needs | one.fit_needs for one in self.detectors))

    @property
    def reduces(self) -> bool:
        return any(one.needs.live for one in self.detectors)

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        return {str(one): one.score(outputs) for one in self.detectors if one.needs.live}

    def learn(self, data: FitData) -> State:
        return {
            "id_scores": self._held_out_scores(data),
            "detectors": {str(number): one.fit(data).state for number, one in enumerate(self.detectors)},
        }

    def _held_out_scores(self, data: FitData) -> Tensor:
        """Of images that the detectors were not fitted on, sorted; the copy of the others goes with this function."""
        apart, used = held_out(len(data.outputs), "fusion compares its detectors")
        outputs = data.outputs.only(self.fit_needs)
        rest = data._replace(
            outputs=outputs.select(used), labels=None if data.labels is None else data.labels[used], reduced={}
        )
        of_id = [
            data.reduced[str(one)][apart] if one.needs.live else one.fit(rest).score(outputs.select(apart))
            for one in self.detectors
        ]
        return torch.stack(of_id, dim=1).sort(dim=0).values

    def score(self, outputs: Outputs) -> Tensor:
        scores = torch.stack([one.score(outputs) for one in self._members()], dim=1)
        known = self.state["id_scores"]
        if self.by == "z":
            deviation = known.std(dim=0, correction=0)
            return ((scores - known.mean(dim=0)) / torch.where(deviation > 0, deviation, 1)).mean(dim=1)
        columns = known.T.contiguous(), scores.T.contiguous()
        ends = (torch.searchsorted(*columns, right=right).double() for right in (False, True))
        return sum(ends, torch.zeros_like(columns[1])).mean(dim=0) / (2 * len(known))

    def _members(self) -> list[Detector]:
        """The detectors; once this is fitted, so are they."""
        if not self.fitted:
            return list(self.detectors)
        return [one.with_state(self.state["detectors"][str(number)]) for number, one in enumerate(self.detectors)]
