"""Deep ensembles, and how far classifiers agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.detectors.softmax import log_probabilities, top_log_odds
from oodbench.outputs import Needs, Outputs

MEASURES = ("max_probability", "log_odds", "mutual_information")

TIED = 1e-12
"""How far apart mean probabilities are, relatively, that rounding may order."""


def agreement(logits: Tensor, measure: str) -> Tensor:
    """How far S classifiers agree, of S×N×K logits, float64 (N,).

    max_probability: log(p/(1 − p)) of the largest mean probability p = max_k p̄_k, which ranks as p does.
    log_odds: mean_s log(p_sk/(1 − p_sk)) of that class k, in which counts how sure the others are where one differs;
    of classes whose p̄_k are equal, as where two classifiers are sure of two classes, the largest.
    mutual_information: −(H(p̄) − mean_s H(p_s)) = −mean_s KL(p_s ‖ p̄), at most 0.
    """
    log_p = logits.double().log_softmax(dim=2)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(log_p))
    if measure == "max_probability":
        return top_log_odds(log_mean)
    if measure == "log_odds":
        parts = map(log_probabilities, logits)
        odds = torch.stack([log_p - log_rest for log_p, log_rest in parts]).mean(dim=0)
        return odds.masked_fill(log_mean < log_mean.amax(dim=1, keepdim=True) - TIED, -torch.inf).amax(dim=1)
    # KL(p ‖ p̄) = Σ_k p̄_k·(d·eᵈ − eᵈ + 1), d = log(p_k/p̄_k): no term is negative, so none is lost in others.
    apart = log_p - log_mean
    return -(log_mean.exp() * (apart * apart.exp() - apart.expm1())).sum(dim=2).mean(dim=0)


@dataclass(frozen=True)
class Ensemble(Detector):
    """Deep ensemble, Lakshminarayanan, Pritzel & Blundell 2017 (arXiv 1612.01474): p̄ = mean_s p_s.

    It reads the classifiers under test as one, whose members' logits are its layers (`oodbench.recipes.ensemble`).
    The score is the largest probability of their mean, as log-odds, the mean of their log-odds, or how little they
    disagree, −mean_s KL(p_s ‖ p̄), the paper's measure of disagreement: see `agreement`.
    """

    reads: ClassVar[str | None] = "ensemble"

    measure: str = parameter("max_probability", "what is read of the members' probabilities", choices=MEASURES)

    needs = Needs("layer:*")

    def score(self, outputs: Outputs) -> Tensor:
        return agreement(torch.stack([outputs.layer(name) for name in outputs.layer_names]), self.measure)
