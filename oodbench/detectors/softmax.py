"""Detectors on the softmax probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector
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


@dataclass(frozen=True)
class Smood(Detector):
    """Maximum softmax probability, Hendrycks & Gimpel 2017 (arXiv 1610.02136), as log-odds.

    The score is log(p/(1 − p)) of p = max_k softmax(z)_k, a strictly increasing function of p: the ranks, and
    so the metrics, are those of p in exact arithmetic.
    """

    def score(self, outputs: Outputs) -> Tensor:
        return top_log_odds(outputs.logits)
