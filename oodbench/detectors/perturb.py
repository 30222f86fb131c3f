"""Input perturbation by the gradient of a detector's own score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import refuse_base
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs
from oodbench.perturbation import step


@dataclass(frozen=True)
class Perturb(Detector):
    """Any detector at x̃ = x + ε·step(∇_x s(x)), s being its own score: ODIN's step as in eq. 2, generalised.

    Lee et al. 2018 (arXiv 1807.03888), section 2.2, take it for the Mahalanobis distance, which is the default base. x
    is in [0, 1] before normalisation, and is not clipped. The base is fitted on images as they are. The norms are those
    of `odin`; OpenOOD's I-ODIN, which moves the steepest value alone, is `odin(norm=l1,fraction=1e-06)`, whose ε is
    theirs over the root of the number of values.
    """

    base: Detector = parameter("mahalanobis", "the detector whose score is climbed, and read there")
    epsilon: float = parameter(
        0.0014,
        "ε, how far pixels in [0, 1] move; 0 is the base itself",
        low=0.0,
        high=1.0,
        grid=(0.0, 0.0005, 0.0014, 0.0028, 0.005, 0.01),
    )
    norm: str = parameter("linf", "shape of the step", choices=("linf", "l2", "l1"))

    def __post_init__(self) -> None:
        super().__post_init__()
        asks = bool({"gradient", "live", "images"} & self.base.needs)
        refuse_base(self, self.base, {"passes images again itself, or reads pixels": asks})

    @property
    def needs(self) -> Needs:
        needs = self._fitted_base.needs
        return needs | Needs("images", "gradient") if self.epsilon > 0 else needs

    @property
    def fit_needs(self) -> Needs:
        return self.base.fit_needs

    @property
    def reduces(self) -> bool:
        return self.base.reduces

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        return self.base.reduce(outputs)

    def learn(self, data: FitData) -> State:
        return {"base": self.base.fit(data).state}

    def score(self, outputs: Outputs) -> Tensor:
        base = self._fitted_base
        if self.epsilon == 0:
            return base.score(outputs)
        # A function of its own: detectors that are equal by their parameters may have learned otherwise.
        gradient = outputs.gradient(partial(_climbed, base)).nan_to_num(0, 0, 0)  # where there is none, no step
        moved = outputs.images + self.epsilon * step(gradient, self.norm)  # type: ignore[arg-type]
        return base.score(outputs.forward(moved))

    @property
    def _fitted_base(self) -> Detector:
        return self.base.with_state(self.state["base"]) if self.fitted else self.base


def _climbed(base: Detector, outputs: Outputs) -> Tensor:
    scores = base.score(outputs)
    if not scores.requires_grad:
        raise OodbenchError(f"perturb cannot climb the score of {base}, which has no gradient; take another base")
    return scores
