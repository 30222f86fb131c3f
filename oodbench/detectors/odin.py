"""ODIN: temperature scaling and a small step against the input gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.detectors.softmax import top_log_odds
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class Odin(Detector):
    """ODIN, Liang, Li & Srikant 2018 (arXiv 1706.02690), eq. 1 and 2.

    x̃ = x − ε·step(∇_x CE(z(x)/T, argmax z(x))), x in [0, 1] before normalisation; the score is the log-odds
    of max_k softmax(z(x̃)/T)_k, which rank as that probability does (see `top_log_odds`). With ε = 0 it costs
    no pass, and with T = 1 too it is `msp`.
    """

    temperature: float = parameter(
        1000.0, "temperature T of the softmax", low=1e-6, high=1e9, grid=(1.0, 10.0, 100.0, 1000.0)
    )
    epsilon: float = parameter(
        0.0014,
        "ε, how far pixels in [0, 1] move; 0 is temperature alone",
        low=0.0,
        high=1.0,
        grid=(0.0, 0.0005, 0.0014, 0.0028, 0.005, 0.01),
    )
    norm: str = parameter(
        "linf",
        "shape of the step: linf moves all values by ε, l2 along the gradient, l1 the steepest values only; "
        "all have the same energy",
        choices=("linf", "l2", "l1"),
    )
    # Without a grid: the default step has none.
    fraction: float = parameter(0.1, "share of the values that an l1 step moves", low=1e-6, high=1.0)
    clip: bool = parameter(False, "clip the moved pixels to [0, 1]")
    preset: str = parameter(
        "paper",
        "paper: where the gradient is 0 a pixel stays; paper-code: under linf it moves by −ε, as in the authors' code",
        choices=("paper", "paper-code"),
    )

    @property
    def needs(self) -> Needs:
        return Needs("logits", "gradient") if self.epsilon > 0 else Needs("logits")

    def score(self, outputs: Outputs) -> Tensor:
        perturbed = outputs.perturbed(
            self.temperature,
            self.epsilon,
            self.norm,  # type: ignore[arg-type]
            fraction=self.fraction,
            sign_of_zero=1 if self.preset == "paper-code" else 0,
            clip=self.clip,
        )
        return top_log_odds(perturbed.logits, self.temperature)
