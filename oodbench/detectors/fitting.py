"""What detectors share: fit outputs, their means and covariances, the sets ID is compared with, what no base can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import name_of
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs

ROWS = 4096
"""Fit images whose outputs are taken to float64 at once: 64 MiB where they have 2,048 features."""


def finite(tensor: Tensor, what: str) -> Tensor:
    """Fit outputs, N×D, as they are.

    Args:
        what: the quantity, for errors ("features").

    Raises:
        OodbenchError: a value is not finite; the image is named.
    """
    broken = (~tensor.isfinite().all(dim=1)).nonzero()
    if len(broken):
        raise OodbenchError(
            f"the {what} of image {int(broken[0])} are not finite ({len(broken)} of {len(tensor)} images), so "
            f"nothing can be learned from them; look at the classifier's weights and its input normalisation"
        )
    return tensor


def fit_array(tensor: Tensor, what: str) -> np.ndarray:
    """Fit outputs, N×D, as a float64 array.

    Raises:
        OodbenchError: see `finite`.
    """
    array: np.ndarray = finite(tensor, what).double().cpu().numpy()
    return array


def mean_of(values: Tensor) -> Tensor:
    """The mean of N×D, float64 (D,)."""
    return torch.stack([block.double().sum(dim=0) for block in values.split(ROWS)]).sum(dim=0) / len(values)


def class_means(values: Tensor, classes: Tensor, count: int) -> Tensor:
    """The means of N×D by their classes 0, …, count − 1, of which none is empty: count×D, float64."""
    return torch.stack([mean_of(values[classes == one]) for one in range(count)])


def scatter(values: Tensor, centres: Tensor, classes: Tensor | None = None) -> Tensor:
    """Σ_i (h_i − c_i)(h_i − c_i)ᵀ/N of N×D around one centre, or that of their class: D×D, float64."""
    total = torch.zeros(values.shape[1], values.shape[1], dtype=torch.float64, device=values.device)
    for start in range(0, len(values), ROWS):
        own = centres if classes is None else centres[classes[start : start + ROWS]]
        centred = values[start : start + ROWS].double() - own
        total += centred.T @ centred
    return total / len(values)


def normalised(features: Tensor) -> Tensor:
    """N×D scaled to length 1, float64; zeros stay zeros."""
    lengths = features.double().norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return features.double() / lengths


def drawn(count: int, most: int) -> Tensor:
    """The indices, in order, of at most so many of the fit images, drawn by a fixed seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].sort().values


def learned(array: np.ndarray, outputs: Tensor) -> Tensor:
    """What scikit-learn learned, on the device of the outputs that it was learned from."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(outputs.device)


def right_ones(data: FitData, detector: str) -> tuple[Tensor, Tensor]:
    """Whether each fit image is classified right, and what it is predicted to be.

    Raises:
        OodbenchError: no image is, or one has no class.
    """
    predicted = finite(data.outputs.logits, "logits").argmax(dim=1)
    right = predicted == class_labels(data, detector)
    if not bool(right.any()):
        raise OodbenchError(
            f"{detector} learns from fit images that are classified right, and none of {len(right)} is; look at the "
            f"classifier, and whether its classes are in the order of the labels"
        )
    return right, predicted


def class_labels(data: FitData, detector: str) -> Tensor:
    """The classes of the fit images, int64 (N,).

    Raises:
        OodbenchError: an image has none.
    """
    if data.labels is None or bool((data.labels < 0).any()):
        found = "none" if data.labels is None else f"label {int(data.labels.min())}"
        raise OodbenchError(f"{detector} needs the classes of all fit images, but got {found}; give a labelled fit set")
    return data.labels


def held_out(count: int, what: str) -> tuple[Tensor, Tensor]:
    """Which of the fit images, and which not, are drawn to be a fifth that something is chosen on.

    Args:
        what: is chosen, for errors ("oodl chooses its layer").

    Raises:
        OodbenchError: there are fewer than 10.
    """
    if count < 10:
        raise OodbenchError(f"{what} on a fifth of 10 or more fit images, but got {count}")
    # Drawn, since images are often sorted by class.
    order = torch.from_numpy(np.random.default_rng(0).permutation(count))
    return order[: count // 5], order[count // 5 :]


def proxy_sets(data: FitData, names: Iterable[str]) -> dict[str, Outputs]:
    """The named proxy sets that came with the fit outputs.

    Raises:
        OodbenchError: one did not come.
    """
    names = list(names)
    for name in names:
        if name not in data.proxies:
            raise OodbenchError(
                f"the fit data came without the proxy set '{name}': give it in FitData(proxies={{...}}), "
                f"as the detector's fit_needs say"
            )
    return {name: data.proxies[name] for name in names}


def refuse_base(owner: Detector, base: Detector, reasons: Mapping[str, bool]) -> None:
    """Refuse a detector that another one cannot read through.

    Args:
        reasons: why, in words, and whether it is so.
    """
    for reason, holds in {"reads a classifier of its own": base.reads is not None, **reasons}.items():
        if holds:
            name = name_of(type(owner))
            raise OodbenchError(f"{name} cannot read through {base}, which {reason}; take another base")
