"""How different generated images are from each other, and how much of the real data they reach."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.inversion import losses

CHUNK = 1000
"""Rows of a distance matrix that are held at a time."""

NEAREST = 5
"""k of the coverage; the paper's choice (section 4.1)."""


@dataclass(frozen=True)
class Diversity:
    """
    Attributes:
        feature_cosine: mean cosine between the features of two different generated images; low is diverse. It
            is mostly that of images of two classes.
        within_class_cosine: the same for two images of one class, averaged over the classes.
        coverage: see `coverage`; high is diverse.
    """

    feature_cosine: float
    within_class_cosine: float
    coverage: float


def diversity(features: Tensor, targets: Tensor, real_features: Tensor) -> Diversity:
    """Measure generated images by features (N×D) and classes (N), against real images' features (M×D)."""
    return Diversity(
        feature_cosine(features), within_class_cosine(features, targets), coverage(real_features, features)
    )


def feature_cosine(features: Tensor) -> float:
    """Mean cosine over all pairs of different rows of N×D, in float64; nan for fewer than two rows."""
    return float(losses.cosine(features.double())) if len(features) > 1 else float("nan")


def within_class_cosine(features: Tensor, targets: Tensor) -> float:
    """`feature_cosine` of each class that has two images at least, averaged over these classes."""
    groups = [features[targets == target] for target in targets.unique()]
    return float(torch.tensor([feature_cosine(group) for group in groups], dtype=torch.float64).nanmean())


def coverage(real: Tensor, generated: Tensor, nearest: int = NEAREST) -> float:
    """The share of real images that have a generated one within the distance of their k-th nearest real one.

    Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models (ICML 2020, arXiv 2002.09797),
    eq. 9. Brute force in float64, in chunks. For as many generated images from the real distribution it is
    about 1 − 2^−k; with fewer generated images it is lower, so compare equal counts only.

    Args:
        real: M×D features, M > k.
        generated: N×D features.
        nearest: k.

    Raises:
        OodbenchError: too few real images, or none generated.
    """
    if len(real) <= nearest or not len(generated):
        raise OodbenchError(
            f"coverage with {nearest} nearest neighbours needs more than {nearest} real images and one "
            f"generated, not {len(real)} and {len(generated)}; give more images"
        )
    real, generated = real.double(), generated.double()
    covered = 0
    for chunk in real.split(CHUNK):
        # An image is its own nearest neighbour: the k-th other one is the (k+1)-th.
        radius = _distances(chunk, real).kthvalue(nearest + 1, dim=1).values
        covered += int((_distances(chunk, generated).amin(dim=1) <= radius).sum())
    return covered / len(real)


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    # The faster way by ‖a‖² + ‖b‖² − 2ab gives equal points a distance above 0.
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
