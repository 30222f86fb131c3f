"""Nearest training images and SSIM, against cases by hand and a slow computation of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.inversion.reconstruction import compare, ssim


def noise(count: int, side: int, seed: int) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Pixel by pixel, with the whole 11×11 window written out, after the paper."""
    place = np.arange(-5, 6)
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = np.pad(x, 5, mode="symmetric"), np.pad(y, 5, mode="symmetric")
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            above = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
            values.append(above / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(values))


def test_ssim_is_that_of_a_slow_computation() -> None:
    a, b = noise(3, 14, 0), noise(3, 14, 1)
    b = 0.6 * a + 0.4 * b
    slow = [slow_ssim(x.numpy().astype(float), y.numpy().astype(float)) for x, y in zip(a[:, 0], b[:, 0], strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(slow, abs=1e-9)


def test_ssim_by_hand() -> None:
    images = noise(2, 8, 2)
    assert ssim(images, images).tolist() == pytest.approx([1, 1])
    # Of two flat images only the light differs: (2·0.2·0.6 + C₁)/(0.2² + 0.6² + C₁).
    flat = torch.full((1, 3, 12, 12), 0.2), torch.full((1, 3, 12, 12), 0.6)
    assert ssim(*flat).item() == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4), abs=1e-6)
    assert ssim(images, 1 - images).max() < 0


def test_nearest_images_and_distances_by_hand() -> None:
    def flat(*values: float) -> Tensor:
        return torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()

    # Of 4 pixels, a difference of d is a distance of 2 d.
    found = compare(flat(0.05, 0.7), flat(0.0, 0.3, 1.0), flat(0.06, 0.5, 0.9))
    assert found.nearest.tolist() == [0, 2]
    assert found.distance.tolist() == pytest.approx([0.1, 0.6], abs=1e-6)
    assert found.own.tolist() == pytest.approx([0.6, 1.4], abs=1e-6)
    assert found.unseen.tolist() == pytest.approx([0.02, 0.4], abs=1e-6)
    assert found.nearer.tolist() == [False, False]
    summary = found.summary()
    assert summary["within_own_distance"] == 1 and summary["nearer_than_unseen"] == 0
    assert summary["distance"] == pytest.approx(0.35, abs=1e-6) and summary["distinct_nearest"] == 2
    assert list(found.table()) == ["nearest", "distance", "own", "unseen", "nearer", "ssim"]


def test_copies_of_training_images_are_found_out_and_new_ones_are_not() -> None:
    trained_on, unseen, new = noise(150, 8, 3), noise(100, 8, 4), noise(100, 8, 5)
    copies = compare((trained_on[:50] + 0.01 * noise(50, 8, 6)).clamp(0, 1), trained_on, unseen)
    assert copies.nearest.tolist() == list(range(50)) and copies.ssim.min() > 0.99
    assert copies.summary()["within_own_distance"] == 1
    fresh = compare(new, trained_on, unseen).summary()
    assert 0.3 < fresh["nearer_than_unseen"] < 0.7 and fresh["within_own_distance"] < 0.7


@pytest.mark.parametrize(("trained_on", "unseen"), [(1, 5), (5, 0)])
def test_too_few_images_are_refused(trained_on: int, unseen: int) -> None:
    with pytest.raises(OodbenchError, match="give more images"):
        compare(noise(2, 8, 0), noise(trained_on, 8, 1), noise(unseen, 8, 2))
