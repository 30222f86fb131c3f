"""Network inversion's garbage class, read as a score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.outputs import Outputs


def log_uncertainty(logits: Tensor) -> Tensor:
    """log UE of N×m logits, float64 (N,), in (−∞, 0]: UE(p) = (m/(m−1))·(1 − Σ_i p_i²), arXiv 2505.23448.

    As Σ_i p_i·(1 − p_i), with 1 − p of the largest p taken from the others, so that it does not round to 0.
    """
    logits = logits.double()
    log_p = logits.log_softmax(dim=1)
    top = log_p.argmax(dim=1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)
    # No other probability is above ½, so log(1 − p) is precise for them.
    log_rest = torch.log1p(-log_p.exp().clamp(max=0.5)).scatter(1, top, others)
    size = logits.shape[1]
    return (log_p + log_rest).logsumexp(dim=1) + math.log(size / (size - 1))


def _garbage_odds(known: Tensor, garbage: Tensor) -> Tensor:
    """log((1 − p_K)/p_K), the energy margin log Σ_{i<K} exp z_i − z_K."""
    return known.logsumexp(dim=1) - garbage


def _margin_probability(known: Tensor, garbage: Tensor) -> Tensor:
    """2·artanh(d) = log((1 + d)/(1 − d)) of d = max_{i<K} p_i − p_K, each of 1 ± d as a sum of probabilities."""
    top, index = known.max(dim=1, keepdim=True)
    others = known.scatter(1, index, -torch.inf)
    above = torch.cat([others, top, top], dim=1).logsumexp(dim=1)
    below = torch.cat([others, garbage[:, None], garbage[:, None]], dim=1).logsumexp(dim=1)
    return above - below


def _max_probability(known: Tensor, garbage: Tensor) -> Tensor:
    """log(p/(1 − p)) of p = max_{i<K} p_i."""
    top, index = known.max(dim=1, keepdim=True)
    others = torch.cat([known.scatter(1, index, -torch.inf), garbage[:, None]], dim=1)
    return top.squeeze(1) - others.logsumexp(dim=1)


def _margin_logit(known: Tensor, garbage: Tensor) -> Tensor:
    """max_{i<K} z_i − z_K."""
    return known.amax(dim=1) - garbage


def _energy_fusion(known: Tensor, garbage: Tensor) -> Tensor:
    """log Σ_{i<K} exp z_i − z_K/2: the mean of the classes' own (negative) energy and of log((1 − p_K)/p_K)."""
    return known.logsumexp(dim=1) - garbage / 2


def _certainty(known: Tensor, garbage: Tensor) -> Tensor:
    """−log UE."""
    return -log_uncertainty(torch.cat([known, garbage[:, None]], dim=1))


READINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "margin_logit": _margin_logit,
    "margin_probability": _margin_probability,
    "neg_garbage_probability": _garbage_odds,
    "energy_fusion": _energy_fusion,
    "max_probability": _max_probability,
    "certainty": _certainty,
}
"""Each takes the logits of the classes, N×K, and that of garbage, N, in float64."""


@dataclass(frozen=True)
class Inversion(Detector):
    """A classifier with a garbage class, trained on noise and on what inverting it gives: how little garbage it sees.

    Suhail et al. 2025 (arXiv 2505.23448). It reads a classifier of its own, which `oodbench.recipes.garbage` trains
    on the ID fit images; the last of its K+1 logits is garbage, and an argmax there says OOD. Where a reading is a
    probability, the score is a strictly increasing function of it that does not saturate: the ranks, and so the
    metrics, are those of the reading in exact arithmetic. `certainty` is 1 − UE; it is high for confident garbage too.
    """

    reads: ClassVar[str | None] = "garbage"

    reading: str = parameter("margin_logit", "what is read of the K+1 outputs", choices=tuple(READINGS))
    by: str = parameter(
        "latents",
        "the maker of inversions: latents moved directly, or a conditional generator",
        choices=("latents", "generator"),
        training=True,
    )
    start: str = parameter(
        "compositions",
        "the start of inversions: drawn compositions, or noise alone",
        choices=("compositions", "noise"),
        training=True,
    )
    steps: int = parameter(
        -1,
        "steps of an inversion at most; 0 leaves images as drawn, -1 is the ID set's default",
        low=-1,
        high=1000,
        training=True,
    )
    seed: int = parameter(0, "of its classifier's training", low=0, high=2**31, training=True)

    def score(self, outputs: Outputs) -> Tensor:
        logits = outputs.logits.double()
        return READINGS[self.reading](logits[:, :-1], logits[:, -1])
