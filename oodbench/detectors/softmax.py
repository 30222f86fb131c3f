"""Detectors on the softmax probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oodbench.detectors.base import Detector, parameter
from oodbench.outputs import Outputs


def top_log_odds(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log(p/(1 − p)) of the largest softmax probability p of N×K logits over T, float64 (N,).

    It ranks as p does, but where float32 has p = 1 from a lead of 17 over the other logits on, and float64 of
    37, the log-odds grow with the lead: z_max/T − logsumexp of the others, with no 1 − p to cancel.
    """
    scaled = logits.double() / temperature
    top, index = scaled.max(dim=1, keepdim=True)
    others = scaled.scatter(1, index, -torch.inf)
    return top.squeeze(1) - others.logsumexp(dim=1)


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 − p) of the softmax probabilities p of N×K logits, float64 N×K.

    Both keep their digits where p is next to 1: the largest comes from the others (see `top_log_odds`).
    """
    odds, (top, index) = top_log_odds(logits)[:, None], logits.double().max(dim=1, keepdim=True)
    log_p = logits.double() - top + logsigmoid(odds)
    return log_p, (-log_p.exp()).log1p().scatter(1, index, logsigmoid(-odds))


@dataclass(frozen=True)
class Msp(Detector):
    """Maximum softmax probability, Hendrycks & Gimpel 2017 (arXiv 1610.02136), as log-odds.

    The score is log(p/(1 − p)) of p = max_k softmax(z)_k, a strictly increasing function of p: the ranks, and
    so the metrics, are those of p in exact arithmetic.
    """

    def score(self, outputs: Outputs) -> Tensor:
        return top_log_odds(outputs.logits)


@dataclass(frozen=True)
class Entropy(Detector):
    """Negative entropy of the softmax probabilities, Σ_k p_k log p_k; as in Chan et al. 2021 (arXiv 2012.06575)."""

    def score(self, outputs: Outputs) -> Tensor:
        log_p, _ = log_probabilities(outputs.logits)
        return (log_p.exp() * log_p).sum(dim=1)


@dataclass(frozen=True)
class Gen(Detector):
    """Generalised entropy, Liu, Lochman & Zach 2023 (CVPR, GEN): −Σ p^γ (1 − p)^γ.

    The sum is over the M largest softmax probabilities p, of all where there are fewer. The paper's M is 100 for
    ImageNet's 1,000 classes.
    """

    gamma: float = parameter(0.1, "exponent γ", low=1e-6, high=100.0, grid=(0.01, 0.1, 0.5, 1.0, 2.0))
    largest: int = parameter(100, "M, how many of the largest probabilities count", low=1, grid=(2, 10, 50, 100, 500))

    def score(self, outputs: Outputs) -> Tensor:
        log_p, log_rest = log_probabilities(outputs.logits)
        order = log_p.topk(min(self.largest, log_p.shape[1]), dim=1).indices
        return -(self.gamma * (log_p + log_rest).gather(1, order)).exp().sum(dim=1)
