"""Deep ensembles, and how far classifiers agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.detectors.softmax import top_log_odds
from oodbench.outputs import Needs, Outputs

MEASURES = ("max_probability", "mutual_information")


def agreement(logits: Tensor, measure: str) -> Tensor:
    """How far S classifiers agree, of S×N×K logits, float64 (N,).

    max_probability: log(p/(1 − p)) of the largest mean probability p = max_k p̄_k, which ranks as p does.
    mutual_information: −(H(p̄) − mean_s H(p_s)) = −mean_s KL(p_s ‖ p̄), at most 0.
    """
    log_p = logits.double().log_softmax(dim=2)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(log_p))
    if measure == "max_probability":
        return top_log_odds(log_mean)
    # KL(p ‖ p̄) = Σ_k p̄_k·(d·eᵈ − eᵈ + 1), d = log(p_k/p̄_k): no term is negative, so none is lost in others.
    apart = log_p - log_mean
    return -(log_mean.exp() * (apart * apart.exp() - apart.expm1())).sum(dim=2).mean(dim=0)


@dataclass(frozen=True)
class Ensemble(Detector):
    """Deep ensemble, Lakshminarayanan, Pritzel & Blundell 2017 (arXiv 1612.01474): p̄ = mean_s p_s.

    It reads the classifiers under test as one, whose members' logits are its layers (`oodbench.recipes.ensemble`).
    The score is the largest probability of their mean, as log-odds, or how little they disagree,
    −mean_s KL(p_s ‖ p̄), the paper's measure of disagreement: see `agreement`.
    """

    reads: ClassVar[str | None] = "ensemble"

    measure: str = parameter("max_probability", "what is read of the members' probabilities", choices=MEASURES)

    needs = Needs("layer:*")

    def score(self, outputs: Outputs) -> Tensor:
        return agreement(torch.stack([outputs.layer(name) for name in outputs.layer_names]), self.measure)
