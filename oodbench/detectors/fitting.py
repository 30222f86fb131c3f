"""What detectors share: fit outputs for scikit-learn, the sets they compare ID with, and what no base can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import name_of
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs


def fit_array(tensor: Tensor, what: str) -> np.ndarray:
    """Fit outputs, N×D, as a float64 array.

    Args:
        what: the quantity, for errors ("features").

    Raises:
        OodbenchError: a value is not finite; the image is named.
    """
    array: np.ndarray = tensor.double().cpu().numpy()
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(broken):
        raise OodbenchError(
            f"the {what} of image {broken[0]} are not finite ({len(broken)} of {len(array)} images), so "
            f"nothing can be learned from them; look at the classifier's weights and its input normalisation"
        )
    return array


def learned(array: np.ndarray, outputs: Tensor) -> Tensor:
    """What scikit-learn learned, on the device of the outputs that it was learned from."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(outputs.device)


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
