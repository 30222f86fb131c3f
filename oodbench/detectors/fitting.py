"""What detectors that learn share: fit outputs for scikit-learn, and the sets they compare ID with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.outputs import Outputs


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


def proxy_sets(outputs: Outputs, names: Iterable[str]) -> dict[str, Outputs]:
    """The named proxy sets that came with the fit outputs.

    Raises:
        OodbenchError: one did not come.
    """
    names = list(names)
    for name in names:
        if name not in outputs.proxies:
            raise OodbenchError(
                f"the fit outputs came without the proxy set '{name}': give it in Outputs(proxies={{...}}), "
                f"as the detector's needs say"
            )
    return {name: outputs.proxies[name] for name in names}
