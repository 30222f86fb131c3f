"""Steps of an input perturbation, matched so that one ε means the same energy in each norm."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from oodbench.errors import OodbenchError

Norm = Literal["linf", "l2", "l1"]


def step(gradient: Tensor, norm: Norm, fraction: float = 0.1, sign_of_zero: int = 0) -> Tensor:
    """The steepest step along `gradient` under a norm, with ‖step‖₂ = √d for an image of d values.

    linf: sign(g). l2: √d·g/‖g‖₂. l1: √(d/k)·sign(g) on the k = ⌈fraction·d⌉ values of largest |g|, the
    steepest step under an L1 budget with a cap per value (without the cap a single value would move). Where
    the gradient is zero there is no step, unless `sign_of_zero` is 1.

    Args:
        gradient: N×C×H×W.
        fraction: share of the values that an l1 step moves, in (0, 1].
        sign_of_zero: what sign(0) is under linf: 0, or 1 as in the code of ODIN's authors.

    Raises:
        OodbenchError: there is no such norm.
    """
    flat = gradient.flatten(1)
    d = flat.shape[1]
    if norm == "linf":
        signs = flat.sign()
        return signs.masked_fill(signs == 0, sign_of_zero).view_as(gradient)
    # Scaled by the largest value first: the square of a gradient at T = 1000 can underflow in float32.
    tiny = torch.finfo(flat.dtype).tiny
    scaled = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    if norm == "l2":
        length = scaled.norm(dim=1, keepdim=True).clamp_min(tiny)
        return (math.sqrt(d) * scaled / length).view_as(gradient)
    if norm == "l1":
        # Less a hair: 0.07 · 100 is 7.000000000000001 in floating point, and that would be 8 values.
        k = max(1, math.ceil(fraction * d - 1e-9))
        # A stable sort keeps the choice among equal values the same whatever batch an image comes in.
        largest = scaled.abs().sort(dim=1, descending=True, stable=True).indices[:, :k]
        kept = torch.zeros_like(flat).scatter_(1, largest, 1.0)
        return (math.sqrt(d / k) * kept * flat.sign()).view_as(gradient)
    raise OodbenchError(f"there is no norm '{norm}'; there are: {', '.join(get_args(Norm))}")
