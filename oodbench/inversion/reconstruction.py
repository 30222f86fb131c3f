"""Are images that a network is inverted to its training images? Nearest neighbours, SSIM, what chance would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from oodbench.errors import OodbenchError

SIGMA = 1.5
TRUNCATE = 3.5
"""A Gaussian window of 11×11, as in the paper on SSIM."""

C1, C2 = 0.01**2, 0.03**2

CHUNK = 64
"""Rows of a distance matrix that are held at a time."""


@dataclass(frozen=True)
class Comparison:
    """How near N images are to real ones; distances are Euclidean, of pixels in [0, 1].

    Attributes:
        nearest: int64 N, which training image is nearest.
        distance: float64 N, to it.
        own: float64 N, from that training image to its nearest other one.
        unseen: float64 N, to the nearest of as many images that were not trained on as training images there are (or
            to the nearest of all, from as many training images: `nearer`).
        nearer: bool N, nearer to a training image than to an unseen one, of equally many each: by chance a half are.
        ssim: float64 N, with the nearest training image.
    """

    nearest: Tensor
    distance: Tensor
    own: Tensor
    unseen: Tensor
    nearer: Tensor
    ssim: Tensor

    def table(self) -> pd.DataFrame:
        """One row an image, with the number of the nearest training image."""
        columns = ("nearest", "distance", "own", "unseen", "nearer", "ssim")
        return pd.DataFrame({name: getattr(self, name).numpy() for name in columns})

    def summary(self) -> dict[str, float]:
        """Means, and the shares of images that are nearer to a training image than it is to its nearest other one
        (`within_own_distance`) and than they are to an unseen one (`nearer_than_unseen`)."""
        return {
            "distance": float(self.distance.mean()),
            "own_distance": float(self.own.mean()),
            "unseen_distance": float(self.unseen.mean()),
            "ssim": float(self.ssim.mean()),
            "within_own_distance": float((self.distance < self.own).double().mean()),
            "nearer_than_unseen": float(self.nearer.double().mean()),
            "distinct_nearest": float(len(self.nearest.unique())),
        }


def compare(images: Tensor, trained_on: Tensor, unseen: Tensor) -> Comparison:
    """Compare images with those that a network was trained on, and with others; all N×C×H×W in [0, 1], on the CPU.

    Raises:
        OodbenchError: fewer than two training images, or no unseen one.
    """
    if len(trained_on) < 2 or not len(unseen):
        raise OodbenchError(
            f"a comparison needs two training images and one unseen one at least, not {len(trained_on)} and "
            f"{len(unseen)}; give more images"
        )
    distance, nearest = _nearest(images, trained_on)
    own = _nearest(trained_on[nearest], trained_on, rank=2)[0]
    equal = min(len(trained_on), len(unseen))
    # Evenly spread over the whole, which may be sorted.
    seen, others = (part[torch.linspace(0, len(part) - 1, equal).long()] for part in (trained_on, unseen))
    to_unseen = _nearest(images, others)[0]
    nearer = _nearest(images, seen)[0] < to_unseen
    return Comparison(nearest, distance, own, to_unseen, nearer, ssim(images, trained_on[nearest]))


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Mean structural similarity of pairs of images, N×C×H×W in [0, 1]; float64 N, 1 for equal ones.

    Wang et al., Image Quality Assessment (IEEE TIP 2004), eq. 13: Gaussian windows of 11×11 with σ = 1.5,
    K₁ = 0.01, K₂ = 0.03, population moments; averaged over all pixels, the image mirrored at its edges, and channels.
    """
    x, y = (part.double().numpy() for part in (images, others))

    def windowed(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, 0, SIGMA, SIGMA), truncate=TRUNCATE)

    mean_x, mean_y = windowed(x), windowed(y)
    var_x, var_y = windowed(x * x) - mean_x**2, windowed(y * y) - mean_y**2
    covariance = windowed(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return torch.from_numpy((light * structure).mean(axis=(1, 2, 3)))


def _nearest(images: Tensor, real: Tensor, rank: int = 1) -> tuple[Tensor, Tensor]:
    """Distance, float64 N, to the nearest real image (or to the one of another rank), and which it is."""
    rows, others = images.flatten(1), real.flatten(1)
    # Not by ‖a‖² + ‖b‖² − 2ab, which gives equal images a distance above 0.
    chunks = (torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist") for part in rows.split(CHUNK))
    found = [chunk.kthvalue(rank, dim=1) for chunk in chunks]
    return torch.cat([part.values for part in found]).double(), torch.cat([part.indices for part in found])
